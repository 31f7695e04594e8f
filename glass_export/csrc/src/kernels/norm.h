// Root-mean-square normalisation of rows.
#pragma once

#include "kernels/kernels.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// sum = x + skip.
inline void add_row(const float* x, const float* skip, int64_t width, float* sum) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(sum + i, add(load(x + i), load(skip + i)));
  for (; i < width; ++i) sum[i] = x[i] + skip[i];
}

inline float mean_square(const float* x, int64_t width) {
  constexpr int kSums = 4;
  Vec sums[kSums] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
    GLASS_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const Vec v = load(x + i + s * kLanes);
      sums[s] = fma(v, v, sums[s]);
    }
  }
  for (; i < width; i += kLanes) {
    const Vec v = load_first(x + i, smaller(kLanes, width - i));
    sums[0] = fma(v, v, sums[0]);
  }
  return sum(add(add(sums[0], sums[1]), add(sums[2], sums[3]))) / static_cast<float>(width);
}

// y = x * factor * weight.
inline void scale_row(const float* x, float factor, const float* weight, int64_t width, float* y) {
  const Vec scale = broadcast(factor);
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    store(y + i, mul(mul(load(x + i), scale), load(weight + i)));
  }
  for (; i < width; ++i) y[i] = x[i] * factor * weight[i];
}

void norm(const NormTask& task) {
  for (int64_t row = 0; row < task.rows; ++row) {
    const int64_t begin = row * task.width;
    const float* x = task.x + begin;
    if (task.sum != nullptr) {
      add_row(x, task.skip + begin, task.width, task.sum + begin);
      x = task.sum + begin;
    }
    const float factor = 1.0f / __builtin_sqrtf(mean_square(x, task.width) + task.eps);
    scale_row(x, factor, task.weight, task.width, task.y + begin);
  }
}

}  // namespace
}  // namespace glass::internal
