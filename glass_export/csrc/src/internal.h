// What the drivers share: the kernels in use, threads, scratch, small arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "glass/base.h"
#include "kernels/integer_kernels.h"
#include "kernels/kernels.h"

namespace glass::internal {

// The kernels of active_isa().
const Kernels& kernels();
const IntegerKernels& integer_kernels();

inline int64_t ceil_to(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

template <class T>
bool has_size(const Span<T>& span, int64_t size) {
  return span.size == static_cast<size_t>(size) && (span.data != nullptr || size == 0);
}

inline bool is_valid(const Parallel& parallel) {
  return parallel.threads >= 1 && parallel.run != nullptr;
}

// function(i) for i in [0, count); the caller's thread alone when count is 1.
template <class Function>
void parallel_for(const Parallel& parallel, int64_t count, const Function& function) {
  if (count == 1) return function(0);
  const auto task = [](void* arg, int64_t i) { (*static_cast<const Function*>(arg))(i); };
  parallel.run(parallel.context, count, task, const_cast<Function*>(&function));
}

// The i-th of `parts` nearly equal parts of [0, size), cut at multiples of `step`.
struct Part {
  int64_t begin;
  int64_t end;
};

inline Part part_of(int64_t size, int64_t parts, int64_t i, int64_t step = 1) {
  const int64_t steps = (size + step - 1) / step;
  return {std::min(size, steps * i / parts * step), std::min(size, steps * (i + 1) / parts * step)};
}

constexpr int64_t kLineFloats = 16;  // a cache line

// Hands out arrays from the caller's scratch, each on cache lines of its own.
class Scratch {
 public:
  explicit Scratch(Span<float> memory) {
    const auto address = reinterpret_cast<uintptr_t>(memory.data);
    const uintptr_t line = kLineFloats * sizeof(float);
    const size_t skipped = (line - address % line) % line / sizeof(float);
    next_ = memory.data + skipped;
  }

  float* take(int64_t size) {
    float* array = next_;
    next_ += ceil_to(size, kLineFloats);
    return array;
  }

  // Floats that take(size) uses up; sum these and add kSlack for the size of a scratch span.
  static constexpr int64_t cost(int64_t size) {
    return (size + kLineFloats - 1) / kLineFloats * kLineFloats;
  }
  static constexpr int64_t kSlack = kLineFloats - 1;

 private:
  float* next_;
};

}  // namespace glass::internal
