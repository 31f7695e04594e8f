// Products with integer weights in plain C++, for any processor.
#pragma once

#include "kernels/integer_row.h"
#include "kernels/kernels.h"

namespace glass::internal {
namespace {

constexpr int kTokens = 1;

template <bool kInt4>
inline float dot_row(const IntegerLayout& layout, const IntegerRow& row, const QuantisedTokens& x) {
  const int64_t second = quantised_stride(layout.groups * kGroupSize) / 2;
  float total = 0.0f;
  for (int64_t g = 0; g < layout.groups; ++g) {
    int32_t dot = 0;
    if (kInt4) {
      const uint8_t* bytes = row.values + 16 * g;
      const int8_t* values = x.values + 16 * g;
      for (int64_t i = 0; i < 16; ++i) {
        dot += ((bytes[i] & 15) - 8) * values[i] + ((bytes[i] >> 4) - 8) * values[second + i];
      }
    } else {
      const uint8_t* bytes = row.values + 32 * g;
      const int8_t* values = x.values + 32 * g;
      for (int64_t i = 0; i < 32; ++i) dot += (bytes[i] - 128) * values[i];
    }
    total += scale_at(row, g) * x.scales[g] * static_cast<float>(dot);
  }
  return total;
}

template <bool kInt4, int kCount>
inline void gate_up(const IntegerLayout& layout, const uint8_t* bundle, const QuantisedTokens& x,
                    const uint8_t* next, float* products) {
  BundleFetch(layout, next).rest();
  products[0] = dot_row<kInt4>(layout, row_of(layout, bundle, 0), x);
  products[1] = dot_row<kInt4>(layout, row_of(layout, bundle, 1), x);
}

template <bool kInt4, int kCount>
inline void add_down(const IntegerLayout& layout, const uint8_t* const* bundles, const float* h,
                     float* y) {
  for (int n = 0; n < kCount; ++n) {
    const IntegerRow row = row_of(layout, bundles[n], 2);
    for (int64_t g = 0; g < layout.groups; ++g) {
      const float factor = h[n] * scale_at(row, g);
      float* sums = y + kGroupSize * g;
      if (kInt4) {
        const uint8_t* bytes = row.values + 16 * g;
        for (int64_t i = 0; i < 16; ++i)
          sums[i] += factor * static_cast<float>((bytes[i] & 15) - 8);
        for (int64_t i = 0; i < 16; ++i) {
          sums[16 + i] += factor * static_cast<float>((bytes[i] >> 4) - 8);
        }
      } else {
        const uint8_t* bytes = row.values + 32 * g;
        for (int64_t i = 0; i < 32; ++i) sums[i] += factor * static_cast<float>(bytes[i] - 128);
      }
    }
  }
}

}  // namespace
}  // namespace glass::internal
