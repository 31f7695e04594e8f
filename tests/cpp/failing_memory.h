// Makes memory run out: operator new, and what is linked with --wrap=malloc, calloc and realloc,
// fail at a chosen call. To be included by one file of a test program. The sanitizers see the rest.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace failing_memory {

inline std::atomic<int64_t> left{-1};     // calls that still succeed; negative: all do
inline std::atomic<bool> armed{false};    // whether calls are counted
inline std::atomic<bool> lasting{false};  // whether all calls fail once one has
inline std::atomic<bool> failed{false};

// From now on the n-th call (from 0) fails, and with `all` every later one.
inline void arm(int64_t n, bool all) {
  failed = false;
  lasting = all;
  left = n;
  armed = true;
}

// Ends that; returns whether a call has failed.
inline bool disarm() {
  armed = false;
  return failed;
}

// Whether this call is to fail.
inline bool fails() {
  if (!armed) return false;
  const int64_t before = left--;
  if (before > 0 || (before < 0 && !lasting)) return false;
  failed = true;
  return true;
}

inline void* allocate(size_t size, size_t alignment) {
  if (fails()) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

inline void* allocate_or_throw(size_t size, size_t alignment) {
  void* const memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace failing_memory

void* operator new(size_t size) { return failing_memory::allocate_or_throw(size, 1); }
void* operator new[](size_t size) { return failing_memory::allocate_or_throw(size, 1); }
void* operator new(size_t size, std::align_val_t alignment) {
  return failing_memory::allocate_or_throw(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return failing_memory::allocate_or_throw(size, static_cast<size_t>(alignment));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return failing_memory::allocate(size, 1);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return failing_memory::allocate(size, 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
