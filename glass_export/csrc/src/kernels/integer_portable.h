// Products with integer weights in plain C++, for any processor.
#pragma once

#include "kernels/integer_kernels.h"
#include "kernels/integer_row.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

constexpr int kGemmTokens = 4;
constexpr int kGroupVecs = kGroupSize / kLanes;

// The integers of a group.
template <bool kInt4>
inline void group_integers(const uint8_t* bytes, int32_t (&values)[kGroupSize]) {
  for (int i = 0; i < kGroupSize / 2; ++i) {
    values[i] = kInt4 ? (bytes[i] & 15) - 8 : bytes[i] - 128;
    values[16 + i] = kInt4 ? (bytes[i] >> 4) - 8 : bytes[16 + i] - 128;
  }
}

template <bool kInt4>
inline void group_floats(const uint8_t* bytes, Vec (&values)[kGroupVecs]) {
  int32_t integers[kGroupSize];
  float floats[kGroupSize];
  group_integers<kInt4>(bytes, integers);
  for (int i = 0; i < kGroupSize; ++i) floats[i] = static_cast<float>(integers[i]);
  for (int v = 0; v < kGroupVecs; ++v) values[v] = load(floats + v * kLanes);
}

inline float scale_at(const IntegerRow& row, int64_t group) {
  uint16_t half;
  std::memcpy(&half, row.scales + 2 * group, sizeof(half));
  return half_to_float(half);
}

// kScaleBlock scales from `group` on, 0 from `count` on.
inline void load_scales(const IntegerRow& row, int64_t group, int64_t count, float* scales) {
  for (int64_t i = 0; i < kScaleBlock; ++i) scales[i] = i < count ? scale_at(row, group + i) : 0.0f;
}

// products[r * kTokens + t] = row r times token t.
template <bool kInt4, int kRows, int kTokens>
inline void multiply_rows(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          Fetch& fetch, float* products) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  const int64_t groups = depth / kGroupSize, stride = quantised_stride(depth);
  fetch.rest();
  for (int i = 0; i < kRows * kTokens; ++i) products[i] = 0.0f;
  for (int64_t g = 0; g < groups; ++g) {
    for (int r = 0; r < kRows; ++r) {
      int32_t weights[kGroupSize];
      group_integers<kInt4>(rows[r].values + g * kBytes, weights);
      const float scale = scale_at(rows[r], g);
      for (int t = 0; t < kTokens; ++t) {
        const int8_t* values = x.values + t * stride + 16 * g;
        int32_t dot = 0;
        for (int i = 0; i < 16; ++i) {
          dot += weights[i] * values[i] + weights[16 + i] * values[stride / 2 + i];
        }
        const float factor = scale * x.scales[t * scales_stride(depth) + g];
        products[r * kTokens + t] += factor * static_cast<float>(dot);
      }
    }
  }
}

}  // namespace
}  // namespace glass::internal
