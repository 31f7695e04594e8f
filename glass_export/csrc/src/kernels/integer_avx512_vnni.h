// Products with integer weights for AVX-512 VNNI.
//
// A vector holds four groups of int4 (each 128-bit lane one, low nibbles its first half) or two of
// int8. vpdpbusd multiplies the stored bytes, which are the weights plus 8 or 128, by x; what is
// too much, that offset times the sum of x, is taken off once per row in floats: scale by scale, 16
// groups at a time.
#pragma once

#include <immintrin.h>

#include "kernels/integer_row.h"
#include "kernels/kernels.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

constexpr int kTokens = 1;

// 16 scales from `group` on, 0 beyond the row.
inline __m512 scales_at(const IntegerRow& row, int64_t group, int64_t count) {
  const __mmask16 valid = static_cast<__mmask16>((1u << count) - 1u);
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(valid, row.scales + 2 * group));
}

// The scales of the groups in a vector, spread over its lanes: lane i has scale first + i / width.
template <bool kInt4>
inline __m512 spread(__m512 scales, int64_t first) {
  const __m512i lanes = kInt4 ? _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
                              : _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(first)));
  return _mm512_permutexvar_ps(index, scales);
}

inline __mmask64 first_bytes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

template <bool kInt4>
inline __m512 dot(__m512i weights, __m512i x, __m512i x_high) {
  __m512i sums = _mm512_setzero_si512();
  if (kInt4) {
    const __m512i nibble = _mm512_set1_epi8(15);
    sums = _mm512_dpbusd_epi32(sums, _mm512_and_si512(weights, nibble), x);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(weights, 4), nibble);
    sums = _mm512_dpbusd_epi32(sums, high, x_high);
  } else {
    sums = _mm512_dpbusd_epi32(sums, weights, x);
  }
  return _mm512_cvtepi32_ps(sums);
}

template <bool kInt4, int kCount>
inline void gate_up(const IntegerLayout& layout, const uint8_t* bundle, const QuantisedTokens& x,
                    const uint8_t* next, float* products) {
  constexpr int64_t kGroups = kInt4 ? 4 : 2, kBytes = 64 / kGroups;
  const IntegerRow gate = row_of(layout, bundle, 0), up = row_of(layout, bundle, 1);
  const int8_t* x_high = x.values + quantised_stride(layout.groups * kGroupSize) / 2;
  BundleFetch fetch(layout, next);
  __m512 gate_sum = _mm512_setzero_ps(), up_sum = gate_sum, gate_sub = gate_sum, up_sub = gate_sum;
  for (int64_t g = 0; g < layout.groups; g += 16) {
    const int64_t count = smaller(16, layout.groups - g);
    __m512 gate_scales = scales_at(gate, g, count), up_scales = scales_at(up, g, count);
    const __m512 too_much = _mm512_loadu_ps(x.sums + g), x_scales = _mm512_loadu_ps(x.scales + g);
    gate_sub = _mm512_fmadd_ps(gate_scales, too_much, gate_sub);
    up_sub = _mm512_fmadd_ps(up_scales, too_much, up_sub);
    gate_scales = _mm512_mul_ps(gate_scales, x_scales);
    up_scales = _mm512_mul_ps(up_scales, x_scales);
    const auto step = [&](int64_t i, __m512i gate_bytes, __m512i up_bytes) {
      const __m512i low = _mm512_loadu_si512(x.values + (g + i) * kBytes);
      const __m512i high = kInt4 ? _mm512_loadu_si512(x_high + (g + i) * kBytes) : low;
      gate_sum = _mm512_fmadd_ps(dot<kInt4>(gate_bytes, low, high), spread<kInt4>(gate_scales, i),
                                 gate_sum);
      up_sum =
          _mm512_fmadd_ps(dot<kInt4>(up_bytes, low, high), spread<kInt4>(up_scales, i), up_sum);
    };
    int64_t i = 0;
    for (; i + kGroups <= count; i += kGroups) {
      fetch.lines(3);
      step(i, _mm512_loadu_si512(gate.values + (g + i) * kBytes),
           _mm512_loadu_si512(up.values + (g + i) * kBytes));
    }
    if (i < count) {
      const __mmask64 valid = first_bytes((count - i) * kBytes);
      step(i, _mm512_maskz_loadu_epi8(valid, gate.values + (g + i) * kBytes),
           _mm512_maskz_loadu_epi8(valid, up.values + (g + i) * kBytes));
    }
  }
  fetch.rest();
  const __m512 offset = _mm512_set1_ps(kInt4 ? 8.0f : 128.0f);
  products[0] = _mm512_reduce_add_ps(_mm512_fnmadd_ps(offset, gate_sub, gate_sum));
  products[1] = _mm512_reduce_add_ps(_mm512_fnmadd_ps(offset, up_sub, up_sum));
}

// 16 weights as floats: of int4 the nibbles are looked up.
template <bool kInt4>
inline void add_group(const uint8_t* bytes, __m512 factor, __m512& first, __m512& second) {
  const auto* quads = reinterpret_cast<const __m128i*>(bytes);
  if (kInt4) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i nibbles = _mm512_cvtepu8_epi32(_mm_loadu_si128(quads));
    first = _mm512_fmadd_ps(factor, _mm512_permutexvar_ps(nibbles, values), first);
    const __m512i high = _mm512_srli_epi32(nibbles, 4);
    second = _mm512_fmadd_ps(factor, _mm512_permutexvar_ps(high, values), second);
  } else {
    const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));
    const __m128i low = _mm_xor_si128(_mm_loadu_si128(quads), flip);
    const __m128i high = _mm_xor_si128(_mm_loadu_si128(quads + 1), flip);
    first = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), first);
    second = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), second);
  }
}

template <bool kInt4, int kCount>
inline void add_down(const IntegerLayout& layout, const uint8_t* const* bundles, const float* h,
                     float* y) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  const uint8_t* rows[kCount];
  for (int n = 0; n < kCount; ++n) rows[n] = row_of(layout, bundles[n], 2).values;
  for (int64_t g = 0; g < layout.groups; g += 16) {
    const int64_t count = smaller(16, layout.groups - g);
    alignas(64) float factors[kCount][16];
    for (int n = 0; n < kCount; ++n) {
      const __m512 scales = scales_at(row_of(layout, bundles[n], 2), g, count);
      _mm512_store_ps(factors[n], _mm512_mul_ps(_mm512_set1_ps(h[n]), scales));
    }
    for (int64_t i = 0; i < count; ++i) {
      float* sums = y + (g + i) * kGroupSize;
      __m512 first = _mm512_loadu_ps(sums), second = _mm512_loadu_ps(sums + 16);
      GLASS_UNROLL
      for (int n = 0; n < kCount; ++n) {
        add_group<kInt4>(rows[n] + (g + i) * kBytes, _mm512_set1_ps(factors[n][i]), first, second);
      }
      _mm512_storeu_ps(sums, first);
      _mm512_storeu_ps(sums + 16, second);
    }
  }
}

}  // namespace
}  // namespace glass::internal
