#include "driver/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace glass {

Result<MappedFile> MappedFile::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return failure(path, ": cannot be opened: ", std::strerror(errno));
  struct stat status;
  void* data = MAP_FAILED;
  const bool known = fstat(file, &status) == 0 && status.st_size > 0;
  const size_t size = known ? static_cast<size_t>(status.st_size) : 0;
  if (known) data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int problem = known ? errno : EINVAL;
  close(file);
  if (data == MAP_FAILED) {
    return failure(path, ": cannot be mapped into memory: ", std::strerror(problem));
  }
  MappedFile mapped;
  mapped.data_ = data;
  mapped.size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace glass
