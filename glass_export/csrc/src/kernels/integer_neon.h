// Products with integer weights for 64-bit Arm: with dotprod and i8mm where the compiler may use
// them.
#pragma once

#include <arm_neon.h>

#include "kernels/integer_row.h"
#include "kernels/kernels.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// The 32 weights of a group, in the order of d.
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

template <bool kInt4>
inline GroupBytes load_token(const int8_t* values, int64_t stride, int64_t group) {
  if (kInt4) return {vld1q_s8(values + 16 * group), vld1q_s8(values + stride / 2 + 16 * group)};
  return {vld1q_s8(values + 32 * group), vld1q_s8(values + 32 * group + 16)};
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

template <bool kInt4>
inline void gate_up_one(const IntegerLayout& layout, const uint8_t* bundle,
                        const QuantisedTokens& x, const uint8_t* next, float* products) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  const IntegerRow gate = row_of(layout, bundle, 0), up = row_of(layout, bundle, 1);
  const int64_t stride = quantised_stride(layout.groups * kGroupSize);
  BundleFetch fetch(layout, next);
  float32x4_t gate_sum = vdupq_n_f32(0.0f), up_sum = gate_sum;
  for (int64_t g = 0; g < layout.groups; ++g) {
    fetch.lines(kInt4 ? 1 : 2);
    const GroupBytes token = load_token<kInt4>(x.values, stride, g);
    const int32x4_t gate_dot = dot(load_group<kInt4>(gate.values + g * kBytes), token);
    const int32x4_t up_dot = dot(load_group<kInt4>(up.values + g * kBytes), token);
    const float gate_scale = scale_at(gate, g) * x.scales[g];
    const float up_scale = scale_at(up, g) * x.scales[g];
    gate_sum = vfmaq_n_f32(gate_sum, vcvtq_f32_s32(gate_dot), gate_scale);
    up_sum = vfmaq_n_f32(up_sum, vcvtq_f32_s32(up_dot), up_scale);
  }
  fetch.rest();
  products[0] = vaddvq_f32(gate_sum);
  products[1] = vaddvq_f32(up_sum);
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kTokens = 2;

// Two rows of 8 bytes, as vmmlaq_s32 takes them: the first (0) or second (1) halves of a and b.
inline int8x16_t rows_of(int8x16_t a, int8x16_t b, int half) {
  const int64x2_t first = vreinterpretq_s64_s8(a), second = vreinterpretq_s64_s8(b);
  return vreinterpretq_s8_s64(half == 0 ? vzip1q_s64(first, second) : vzip2q_s64(first, second));
}

// Two rows times two tokens: [gate x0, gate x1, up x0, up x1].
inline int32x4_t multiply_pairs(const GroupBytes& gate, const GroupBytes& up, const GroupBytes& x0,
                                const GroupBytes& x1) {
  int32x4_t sums = vdupq_n_s32(0);
  GLASS_UNROLL
  for (int half = 0; half < 2; ++half) {
    sums = vmmlaq_s32(sums, rows_of(gate.first, up.first, half), rows_of(x0.first, x1.first, half));
    sums = vmmlaq_s32(sums, rows_of(gate.second, up.second, half),
                      rows_of(x0.second, x1.second, half));
  }
  return sums;
}

template <bool kInt4>
inline void gate_up_two(const IntegerLayout& layout, const uint8_t* bundle,
                        const QuantisedTokens& x, const uint8_t* next, float* products) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  const IntegerRow gate = row_of(layout, bundle, 0), up = row_of(layout, bundle, 1);
  const int64_t d_model = layout.groups * kGroupSize;
  const int64_t stride = quantised_stride(d_model), scales = scales_stride(d_model);
  BundleFetch fetch(layout, next);
  float32x4_t sums = vdupq_n_f32(0.0f);
  for (int64_t g = 0; g < layout.groups; ++g) {
    fetch.lines(kInt4 ? 1 : 2);
    const int32x4_t dots = multiply_pairs(
        load_group<kInt4>(gate.values + g * kBytes), load_group<kInt4>(up.values + g * kBytes),
        load_token<kInt4>(x.values, stride, g), load_token<kInt4>(x.values + stride, stride, g));
    const float gate_scale = scale_at(gate, g), up_scale = scale_at(up, g);
    const float x0 = x.scales[g], x1 = x.scales[scales + g];
    const float32x4_t factors = {gate_scale * x0, gate_scale * x1, up_scale * x0, up_scale * x1};
    sums = vfmaq_f32(sums, vcvtq_f32_s32(dots), factors);
  }
  fetch.rest();
  vst1q_f32(products, sums);
}
#else
constexpr int kTokens = 1;
#endif

template <bool kInt4, int kCount>
inline void gate_up(const IntegerLayout& layout, const uint8_t* bundle, const QuantisedTokens& x,
                    const uint8_t* next, float* products) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  if (kCount == 2) return gate_up_two<kInt4>(layout, bundle, x, next, products);
#endif
  gate_up_one<kInt4>(layout, bundle, x, next, products);
}

// 16 weights times factor.
inline void add_bytes(int8x16_t bytes, float factor, float32x4_t* sums) {
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  sums[0] = vfmaq_n_f32(sums[0], vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), factor);
  sums[1] = vfmaq_n_f32(sums[1], vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))), factor);
  sums[2] = vfmaq_n_f32(sums[2], vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), factor);
  sums[3] = vfmaq_n_f32(sums[3], vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))), factor);
}

template <bool kInt4, int kCount>
inline void add_down(const IntegerLayout& layout, const uint8_t* const* bundles, const float* h,
                     float* y) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  IntegerRow rows[kCount];
  for (int n = 0; n < kCount; ++n) rows[n] = row_of(layout, bundles[n], 2);
  for (int64_t g = 0; g < layout.groups; ++g) {
    float* at = y + g * kGroupSize;
    float32x4_t sums[8];
    GLASS_UNROLL
    for (int v = 0; v < 8; ++v) sums[v] = vld1q_f32(at + 4 * v);
    GLASS_UNROLL
    for (int n = 0; n < kCount; ++n) {
      const float factor = h[n] * scale_at(rows[n], g);
      const GroupBytes weights = load_group<kInt4>(rows[n].values + g * kBytes);
      add_bytes(weights.first, factor, sums);
      add_bytes(weights.second, factor, sums + 4);
    }
    GLASS_UNROLL
    for (int v = 0; v < 8; ++v) vst1q_f32(at + 4 * v, sums[v]);
  }
}

}  // namespace
}  // namespace glass::internal
