// Products with integer weights for AVX2, with AVX-VNNI where __AVXVNNI__ is defined.
//
// A vector holds two groups of int4 (each 128-bit lane one, low nibbles its first half) or one of
// int8. The stored bytes are the weights plus 8 or 128; that offset times the sum of x is taken off
// once per row, but for int8 without VNNI: there a 16-bit sum of the stored bytes would overflow,
// so |weight| is multiplied by x with the weight's sign.
#pragma once

#include <immintrin.h>

#include "kernels/integer_row.h"
#include "kernels/kernels.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

constexpr int kTokens = 1;

#if defined(__AVXVNNI__)
constexpr bool kVnni = true;
inline __m256i multiply_bytes(__m256i sums, __m256i weights, __m256i x) {
  return _mm256_dpbusd_avx_epi32(sums, weights, x);
}
#else
constexpr bool kVnni = false;
inline __m256i multiply_bytes(__m256i sums, __m256i weights, __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(weights, x);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

// 8 scales from `group` on, 0 beyond the row.
inline __m256 scales_at(const IntegerRow& row, int64_t group, int64_t count) {
  const uint8_t* scales = row.scales + 2 * group;
  if (count >= 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
  alignas(16) uint16_t halves[8] = {};
  std::memcpy(halves, scales, static_cast<size_t>(2 * count));
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(halves)));
}

template <bool kInt4>
inline __m256 spread(__m256 scales, int64_t first) {
  const __m256i lanes = kInt4 ? _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1) : _mm256_setzero_si256();
  const __m256i index = _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int32_t>(first)));
  return _mm256_permutevar8x32_ps(scales, index);
}

template <bool kInt4>
inline __m256 dot(__m256i weights, __m256i x, __m256i x_high) {
  __m256i sums = _mm256_setzero_si256();
  if (kInt4) {
    const __m256i nibble = _mm256_set1_epi8(15);
    sums = multiply_bytes(sums, _mm256_and_si256(weights, nibble), x);
    sums = multiply_bytes(sums, _mm256_and_si256(_mm256_srli_epi16(weights, 4), nibble), x_high);
  } else if (kVnni) {
    sums = multiply_bytes(sums, weights, x);
  } else {
    const __m256i value = _mm256_xor_si256(weights, _mm256_set1_epi8(static_cast<char>(0x80)));
    sums = multiply_bytes(sums, _mm256_abs_epi8(value), _mm256_sign_epi8(x, value));
  }
  return _mm256_cvtepi32_ps(sums);
}

inline __m256i load_bytes(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}

inline __m256i load_half(const void* bytes) {
  return _mm256_inserti128_si256(_mm256_setzero_si256(),
                                 _mm_loadu_si128(static_cast<const __m128i*>(bytes)), 0);
}

inline float sum_lanes(__m256 a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

template <bool kInt4, int kCount>
inline void gate_up(const IntegerLayout& layout, const uint8_t* bundle, const QuantisedTokens& x,
                    const uint8_t* next, float* products) {
  constexpr int64_t kGroups = kInt4 ? 2 : 1, kBytes = 32 / kGroups;
  const IntegerRow gate = row_of(layout, bundle, 0), up = row_of(layout, bundle, 1);
  const int8_t* x_high = x.values + quantised_stride(layout.groups * kGroupSize) / 2;
  BundleFetch fetch(layout, next);
  __m256 gate_sum = _mm256_setzero_ps(), up_sum = gate_sum, gate_sub = gate_sum, up_sub = gate_sum;
  for (int64_t g = 0; g < layout.groups; g += 8) {
    const int64_t count = smaller(8, layout.groups - g);
    __m256 gate_scales = scales_at(gate, g, count), up_scales = scales_at(up, g, count);
    const __m256 too_much = _mm256_loadu_ps(x.sums + g), x_scales = _mm256_loadu_ps(x.scales + g);
    gate_sub = _mm256_fmadd_ps(gate_scales, too_much, gate_sub);
    up_sub = _mm256_fmadd_ps(up_scales, too_much, up_sub);
    gate_scales = _mm256_mul_ps(gate_scales, x_scales);
    up_scales = _mm256_mul_ps(up_scales, x_scales);
    const auto step = [&](int64_t i, __m256i gate_bytes, __m256i up_bytes) {
      const __m256i low = load_bytes(x.values + (g + i) * kBytes);
      const __m256i high = kInt4 ? load_bytes(x_high + (g + i) * kBytes) : low;
      gate_sum = _mm256_fmadd_ps(dot<kInt4>(gate_bytes, low, high), spread<kInt4>(gate_scales, i),
                                 gate_sum);
      up_sum =
          _mm256_fmadd_ps(dot<kInt4>(up_bytes, low, high), spread<kInt4>(up_scales, i), up_sum);
    };
    int64_t i = 0;
    for (; i + kGroups <= count; i += kGroups) {
      fetch.lines(2);
      step(i, load_bytes(gate.values + (g + i) * kBytes), load_bytes(up.values + (g + i) * kBytes));
    }
    if (i < count) {
      step(i, load_half(gate.values + (g + i) * kBytes), load_half(up.values + (g + i) * kBytes));
    }
  }
  fetch.rest();
  const __m256 offset = _mm256_set1_ps(kInt4 ? 8.0f : kVnni ? 128.0f : 0.0f);
  products[0] = sum_lanes(_mm256_fnmadd_ps(offset, gate_sub, gate_sum));
  products[1] = sum_lanes(_mm256_fnmadd_ps(offset, up_sub, up_sum));
}

// The 16 signed bytes from `first` on times factor.
inline void add_bytes(__m128i bytes, __m256 factor, __m256* sums) {
  const __m128i second = _mm_srli_si128(bytes, 8);
  sums[0] = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), sums[0]);
  sums[1] = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(second)), sums[1]);
}

template <bool kInt4>
inline void add_group(const uint8_t* bytes, __m256 factor, __m256 (&sums)[4]) {
  const auto* quads = reinterpret_cast<const __m128i*>(bytes);
  const __m128i packed = _mm_loadu_si128(quads);
  if (kInt4) {
    const __m128i nibble = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    const __m128i low = _mm_and_si128(packed, nibble);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
    add_bytes(_mm_sub_epi8(low, eight), factor, sums);
    add_bytes(_mm_sub_epi8(high, eight), factor, sums + 2);
  } else {
    const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));
    add_bytes(_mm_xor_si128(packed, flip), factor, sums);
    add_bytes(_mm_xor_si128(_mm_loadu_si128(quads + 1), flip), factor, sums + 2);
  }
}

template <bool kInt4, int kCount>
inline void add_down(const IntegerLayout& layout, const uint8_t* const* bundles, const float* h,
                     float* y) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  const uint8_t* rows[kCount];
  for (int n = 0; n < kCount; ++n) rows[n] = row_of(layout, bundles[n], 2).values;
  for (int64_t g = 0; g < layout.groups; g += 8) {
    const int64_t count = smaller(8, layout.groups - g);
    alignas(32) float factors[kCount][8];
    for (int n = 0; n < kCount; ++n) {
      const __m256 scales = scales_at(row_of(layout, bundles[n], 2), g, count);
      _mm256_store_ps(factors[n], _mm256_mul_ps(_mm256_set1_ps(h[n]), scales));
    }
    for (int64_t i = 0; i < count; ++i) {
      float* at = y + (g + i) * kGroupSize;
      __m256 sums[4];
      GLASS_UNROLL
      for (int v = 0; v < 4; ++v) sums[v] = _mm256_loadu_ps(at + 8 * v);
      GLASS_UNROLL
      for (int n = 0; n < kCount; ++n) {
        add_group<kInt4>(rows[n] + (g + i) * kBytes, _mm256_set1_ps(factors[n][i]), sums);
      }
      GLASS_UNROLL
      for (int v = 0; v < 4; ++v) _mm256_storeu_ps(at + 8 * v, sums[v]);
    }
  }
}

}  // namespace
}  // namespace glass::internal
