// Memory for data that is written once and then streamed, in pages as large as the system has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>

namespace glass {

// Hands out parts of large chunks; a chunk goes back to the system with its last part. For use by
// several threads.
class HugePages {
 public:
  // A part of a chunk, given back when it is destroyed; empty when there was no memory.
  class Block {
   public:
    Block() = default;
    Block(Block&& other) noexcept;
    Block& operator=(Block&& other) noexcept;
    ~Block() { release(); }

    uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

   private:
    friend class HugePages;
    struct Chunk;

    void release();

    HugePages* owner_ = nullptr;
    Chunk* chunk_ = nullptr;
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
  };

  // That of the process, which is never destroyed.
  static HugePages& of_process();

  HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;
  ~HugePages();

  // `size` bytes that begin at a cache line. Must be destroyed before this object.
  Block allocate(size_t size);

 private:
  Block::Chunk* open_chunk(size_t size);

  std::mutex mutex_;
  std::list<Block::Chunk> chunks_;  // new parts come from the last one
};

}  // namespace glass
