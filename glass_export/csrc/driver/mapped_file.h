// A file's bytes in memory, read when they are first touched.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "driver/status.h"

namespace glass {

// A read-only mapping, which ends with this object.
class MappedFile {
 public:
  // Fails when the file cannot be opened or mapped.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile();

  const std::byte* data() const { return static_cast<const std::byte*>(data_); }
  size_t size() const { return size_; }  // bytes

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace glass
