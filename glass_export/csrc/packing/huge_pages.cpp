#include "packing/huge_pages.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace glass {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{1} << 21;  // of x86 and of Arm with pages of 4 KiB
constexpr size_t kChunk = size_t{1} << 24;

size_t round_up(size_t size, size_t step) { return (size + step - 1) / step * step; }

uint8_t* map(size_t size) {
  void* memory = std::aligned_alloc(kHugePage, size);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A wish: without huge pages the memory is as good as any other.
  if (memory != nullptr) (void)madvise(memory, size, MADV_HUGEPAGE);
#endif
  return static_cast<uint8_t*>(memory);
}

}  // namespace

struct HugePages::Block::Chunk {
  explicit Chunk(size_t bytes) : size(bytes), data(map(bytes)) {}
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  ~Chunk() { std::free(data); }

  size_t size;
  uint8_t* data;
  size_t used = 0;
  int64_t blocks = 0;  // that are in use
};

HugePages& HugePages::of_process() {
  static HugePages& shared = *new HugePages;
  return shared;
}

HugePages::HugePages() = default;
HugePages::~HugePages() = default;

HugePages::Block::Block(Block&& other) noexcept { *this = std::move(other); }

HugePages::Block& HugePages::Block::operator=(Block&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(chunk_, other.chunk_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void HugePages::Block::release() {
  if (owner_ == nullptr) return;
  const std::lock_guard<std::mutex> guard(owner_->mutex_);
  if (--chunk_->blocks > 0) return;
  owner_->chunks_.remove_if([&](const Chunk& chunk) { return &chunk == chunk_; });
}

HugePages::Block::Chunk* HugePages::open_chunk(size_t size) {
  if (!chunks_.empty() && chunks_.back().size - chunks_.back().used >= size) {
    return &chunks_.back();
  }
  chunks_.emplace_back(std::max(kChunk, round_up(size, kHugePage)));
  if (chunks_.back().data != nullptr) return &chunks_.back();
  chunks_.pop_back();
  return nullptr;
}

HugePages::Block HugePages::allocate(size_t size) {
  const std::lock_guard<std::mutex> guard(mutex_);
  Block block;
  Block::Chunk* const chunk = open_chunk(round_up(size, kLine));
  if (chunk == nullptr) return block;
  block.owner_ = this;
  block.chunk_ = chunk;
  block.data_ = chunk->data + chunk->used;
  block.size_ = size;
  chunk->used += round_up(size, kLine);
  ++chunk->blocks;
  return block;
}

}  // namespace glass
