#include "packing/file_pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#endif

namespace glass {

#if defined(__linux__)

namespace {

// Whether one mapping of a file, for reading alone, holds all of [begin, end).
bool maps_file(uintptr_t begin, uintptr_t end) {
  std::FILE* const maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  char line[512];
  bool found = false;
  while (!found && std::fgets(line, sizeof line, maps) != nullptr) {
    uintptr_t from = 0, to = 0;
    char access[5] = {};
    unsigned long inode = 0;
    const int read =
        std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*s %lu", &from, &to, access, &inode);
    found = read == 4 && from <= begin && end <= to && access[0] == 'r' && access[1] == '-' &&
            inode != 0;
  }
  std::fclose(maps);
  return found;
}

}  // namespace

bool release_file_pages(const void* data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + page - 1) / page * page;
  const uintptr_t end = (address + bytes) / page * page;
  if (begin >= end || !maps_file(begin, end)) return false;
  return madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) == 0;
}

#else

bool release_file_pages(const void*, size_t) { return false; }

#endif

}  // namespace glass
