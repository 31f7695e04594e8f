// Tokens to int8. Include after one vec_*.h.
#pragma once

#include "kernels/integer_kernels.h"
#include "kernels/integer_row.h"

namespace glass::internal {
namespace {

// The scale of one group, its values rounded; NaN when a value is NaN or infinite.
inline float quantise_group(const float* x, float* rounded) {
  Vec most = zero(), check = zero();
  for (int64_t i = 0; i < kGroupSize; i += kLanes) {
    const Vec v = load(x + i);
    most = max(abs(v), most);
    check = fma(v, zero(), check);
  }
  float lanes[kLanes], largest = 0.0f;
  store(lanes, most);
  for (int64_t i = 0; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  const float not_finite = sum(check);
  const bool is_finite = not_finite == 0.0f;
  // Of smaller values the inverse is infinite.
  const bool is_zero = !(largest > 1e-30f);
  const Vec inverse = broadcast(is_finite && !is_zero ? 127.0f / largest : 0.0f);
  for (int64_t i = 0; i < kGroupSize; i += kLanes) {
    store(rounded + i, is_finite ? round(mul(load(x + i), inverse)) : zero());
  }
  if (!is_finite) return not_finite;
  return is_zero ? 0.0f : largest / 127.0f;
}

// One token; `bias` is what stored weights are too large by.
inline void quantise_token(const float* x, int64_t depth, int32_t bias, int8_t* values,
                           float* scales, int32_t* offsets) {
  constexpr int64_t kHalf = kGroupSize / 2;
  const int64_t groups = depth / kGroupSize, second = quantised_stride(depth) / 2;
  for (int64_t g = 0; g < groups; ++g) {
    float rounded[kGroupSize];
    scales[g] = quantise_group(x + g * kGroupSize, rounded);
    int8_t* first = values + g * kHalf;
    for (int64_t i = 0; i < kHalf; ++i) first[i] = static_cast<int8_t>(rounded[i]);
    for (int64_t i = 0; i < kHalf; ++i) first[second + i] = static_cast<int8_t>(rounded[kHalf + i]);
    for (int64_t lane = 0; lane < 4; ++lane) {
      const float* quad = rounded + 4 * lane;
      float total = 0.0f;
      for (int64_t i = 0; i < 4; ++i) total += quad[i] + quad[kHalf + i];
      offsets[4 * g + lane] = -bias * static_cast<int32_t>(total);
    }
  }
  for (int64_t i = groups * kHalf; i < second; ++i) values[i] = values[second + i] = 0;
  for (int64_t g = groups; g < scales_stride(depth); ++g) scales[g] = 0.0f;
  for (int64_t i = 4 * groups; i < offsets_stride(depth); ++i) offsets[i] = 0;
}

void quantise(const QuantiseTask& task) {
  const int32_t bias = task.format == BundleFormat::kInt4 ? 8 : 128;
  for (int64_t t = 0; t < task.tokens; ++t) {
    quantise_token(
        task.x + t * task.depth, task.depth, bias, task.values + t * quantised_stride(task.depth),
        task.scales + t * scales_stride(task.depth), task.offsets + t * offsets_stride(task.depth));
  }
}

inline QuantisedTokens token_at(const QuantisedTokens& x, int64_t depth, int64_t t) {
  return {x.values + t * quantised_stride(depth), x.scales + t * scales_stride(depth),
          x.offsets + t * offsets_stride(depth)};
}

}  // namespace
}  // namespace glass::internal
