// Products with integer weights for 64-bit Arm: with dotprod and i8mm where the compiler may use
// them.
#pragma once

#include <arm_neon.h>

#include "kernels/integer_kernels.h"
#include "kernels/integer_row.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// Tokens of a tile of two rows: at most 2 x 8 sums of 32 registers.
constexpr int kGemmTokens = 8;
constexpr int kGroupVecs = kGroupSize / kLanes;

// The 32 weights or values of a group, in the order of d.
struct GroupBytes {
  int8x16_t first, second;
};

template <bool kInt4>
inline GroupBytes load_group(const uint8_t* bytes) {
  const uint8x16_t packed = vld1q_u8(bytes);
  if (kInt4) {
    const int8x16_t eight = vdupq_n_s8(8);
    return {vsubq_s8(vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15))), eight),
            vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(packed, 4)), eight)};
  }
  const uint8x16_t flip = vdupq_n_u8(0x80);
  return {vreinterpretq_s8_u8(veorq_u8(packed, flip)),
          vreinterpretq_s8_u8(veorq_u8(vld1q_u8(bytes + 16), flip))};
}

inline GroupBytes load_token(const QuantisedTokens& x, int64_t depth, int64_t t, int64_t group) {
  const int64_t stride = quantised_stride(depth);
  const int8_t* values = x.values + t * stride + 16 * group;
  return {vld1q_s8(values), vld1q_s8(values + stride / 2)};
}

// kScaleBlock scales from `group` on, 0 from `count` on.
inline void load_scales(const IntegerRow& row, int64_t group, int64_t count, float* scales) {
  uint16_t halves[kScaleBlock] = {};
  std::memcpy(halves, row.scales + 2 * group, static_cast<size_t>(2 * count));
  for (int64_t i = 0; i < kScaleBlock; i += 4) {
    vst1q_f32(scales + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves + i))));
  }
}

#if defined(__ARM_FEATURE_DOTPROD)
inline int32x4_t dot(const GroupBytes& weights, const GroupBytes& x) {
  return vdotq_s32(vdotq_s32(vdupq_n_s32(0), weights.first, x.first), weights.second, x.second);
}
#else
// Two products of at most 128 * 127 fit 16 bits.
inline int32x4_t dot(const GroupBytes& weights, const GroupBytes& x) {
  int16x8_t low = vmull_s8(vget_low_s8(weights.first), vget_low_s8(x.first));
  low = vmlal_s8(low, vget_low_s8(weights.second), vget_low_s8(x.second));
  int16x8_t high = vmull_s8(vget_high_s8(weights.first), vget_high_s8(x.first));
  high = vmlal_s8(high, vget_high_s8(weights.second), vget_high_s8(x.second));
  return vpadalq_s16(vpaddlq_s16(low), high);
}
#endif

// Up to kScaleBlock groups from `first` on. `tile` adds one group: tile(group, weights of the rows,
// their scales).
template <bool kInt4, int kRows, class Tile>
inline void each_group(const IntegerRow* rows, int64_t first, int64_t count, const Tile& tile) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  float scales[kRows][kScaleBlock];
  for (int r = 0; r < kRows; ++r) load_scales(rows[r], first, count, scales[r]);
  for (int64_t i = 0; i < count; ++i) {
    GroupBytes weights[kRows];
    float row_scales[kRows];
    GLASS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      weights[r] = load_group<kInt4>(rows[r].values + (first + i) * kBytes);
      row_scales[r] = scales[r][i];
    }
    tile(first + i, weights, row_scales);
  }
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr bool kHasPairs = true;

// Two rows of 8 bytes, as vmmlaq_s32 takes them: the first (0) or second (1) halves of a and b.
inline int8x16_t rows_of(int8x16_t a, int8x16_t b, int half) {
  const int64x2_t first = vreinterpretq_s64_s8(a), second = vreinterpretq_s64_s8(b);
  return vreinterpretq_s8_s64(half == 0 ? vzip1q_s64(first, second) : vzip2q_s64(first, second));
}

// Two rows times two tokens: [row 0 x0, row 0 x1, row 1 x0, row 1 x1].
inline int32x4_t multiply_pairs(const GroupBytes* rows, const GroupBytes& x0,
                                const GroupBytes& x1) {
  int32x4_t sums = vdupq_n_s32(0);
  GLASS_UNROLL
  for (int half = 0; half < 2; ++half) {
    sums = vmmlaq_s32(sums, rows_of(rows[0].first, rows[1].first, half),
                      rows_of(x0.first, x1.first, half));
    sums = vmmlaq_s32(sums, rows_of(rows[0].second, rows[1].second, half),
                      rows_of(x0.second, x1.second, half));
  }
  return sums;
}

// multiply_rows of two rows and an even number of tokens.
template <bool kInt4, int kTokens>
inline void multiply_row_pair(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                              float* products) {
  const int64_t groups = depth / kGroupSize, stride = scales_stride(depth);
  float32x4_t sums[kTokens / 2];
  for (int t = 0; t < kTokens / 2; ++t) sums[t] = vdupq_n_f32(0.0f);
  for (int64_t g = 0; g < groups; g += kScaleBlock) {
    const int64_t count = smaller(kScaleBlock, groups - g);
    each_group<kInt4, 2>(
        rows, g, count, [&](int64_t group, const GroupBytes* weights, const float* scales) {
          const float32x4_t row_scales = {scales[0], scales[0], scales[1], scales[1]};
          GLASS_UNROLL
          for (int t = 0; t < kTokens; t += 2) {
            const int32x4_t dots = multiply_pairs(weights, load_token(x, depth, t, group),
                                                  load_token(x, depth, t + 1, group));
            const float x0 = x.scales[t * stride + group], x1 = x.scales[(t + 1) * stride + group];
            const float32x4_t factors = vmulq_f32(row_scales, float32x4_t{x0, x1, x0, x1});
            sums[t / 2] = vfmaq_f32(sums[t / 2], vcvtq_f32_s32(dots), factors);
          }
        });
  }
  for (int t = 0; t < kTokens; t += 2) {
    vst1_f32(products + t, vget_low_f32(sums[t / 2]));
    vst1_f32(products + kTokens + t, vget_high_f32(sums[t / 2]));
  }
}
#else
constexpr bool kHasPairs = false;
template <bool kInt4, int kTokens>
void multiply_row_pair(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                       float* products);
#endif

// products[r * kTokens + t] = row r times token t.
template <bool kInt4, int kRows, int kTokens>
inline void multiply_rows(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          Fetch& fetch, float* products) {
  if constexpr (kHasPairs && kRows == 2 && kTokens % 2 == 0) {
    return multiply_row_pair<kInt4, kTokens>(rows, x, depth, products);
  } else {
    const int64_t groups = depth / kGroupSize, stride = scales_stride(depth);
    float32x4_t sums[kRows * kTokens];
    for (int i = 0; i < kRows * kTokens; ++i) sums[i] = vdupq_n_f32(0.0f);
    for (int64_t g = 0; g < groups; g += kScaleBlock) {
      const int64_t count = smaller(kScaleBlock, groups - g);
      each_group<kInt4, kRows>(rows, g, count,
                               [&](int64_t group, const GroupBytes* weights, const float* scales) {
                                 fetch.lines(kInt4 ? (kRows + 1) / 2 : kRows);
                                 GLASS_UNROLL
                                 for (int t = 0; t < kTokens; ++t) {
                                   const GroupBytes token = load_token(x, depth, t, group);
                                   const float token_scale = x.scales[t * stride + group];
                                   GLASS_UNROLL
                                   for (int r = 0; r < kRows; ++r) {
                                     float32x4_t& sum = sums[r * kTokens + t];
                                     sum = vfmaq_n_f32(sum, vcvtq_f32_s32(dot(weights[r], token)),
                                                       scales[r] * token_scale);
                                   }
                                 }
                               });
    }
    for (int i = 0; i < kRows * kTokens; ++i) products[i] = vaddvq_f32(sums[i]);
  }
}

// 16 signed bytes as floats.
inline void bytes_to_floats(int8x16_t bytes, Vec* values) {
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  values[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
  values[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
  values[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
  values[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
}

// The integers of a group.
template <bool kInt4>
inline void group_floats(const uint8_t* bytes, Vec (&values)[kGroupVecs]) {
  const GroupBytes group = load_group<kInt4>(bytes);
  bytes_to_floats(group.first, values);
  bytes_to_floats(group.second, values + 4);
}

}  // namespace
}  // namespace glass::internal
