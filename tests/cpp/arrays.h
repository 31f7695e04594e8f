// Arrays for tests: random values, spans, scratch of exactly the size that is asked for.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "glass/base.h"

namespace glass::test {

using Floats = std::vector<float>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
Span<T> span(std::vector<T>& values) {
  return {values.data(), values.size()};
}

template <class T>
Span<const T> view(const std::vector<T>& values) {
  return {values.data(), values.size()};
}

// Values between -1 and 1 from a generator of its own.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}

  uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 32);
  }

  float value() { return static_cast<float>(static_cast<int32_t>(next())) * 0x1p-31f; }

  Floats values(int64_t count, float scale = 1.0f) {
    Floats values(static_cast<size_t>(count));
    for (float& v : values) v = scale * value();
    return values;
  }

 private:
  uint64_t state_;
};

// Scratch that begins at an address that is a multiple of 4 alone and ends with its allocation, so
// that a sanitizer sees any use beyond it.
class TightScratch {
 public:
  explicit TightScratch(size_t size) : memory_(size + 1) {}
  Span<float> get() { return {memory_.data() + 1, memory_.size() - 1}; }

 private:
  Floats memory_;
};

}  // namespace glass::test
