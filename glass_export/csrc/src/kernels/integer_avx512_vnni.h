// Products with integer weights for AVX-512 VNNI.
//
// A vector holds four groups: each 128-bit lane one, the first halves in one vector and the second
// halves in another, as the nibbles of int4 are stored. vpdpbusd multiplies the stored bytes, which
// are the weights plus 8 or 128, by x; it adds to the token's offsets, which take that off.
#pragma once

#include <immintrin.h>

#include "kernels/integer_kernels.h"
#include "kernels/integer_row.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// Tokens of a tile of two rows: 2 x 8 sums, and what a step needs, in 32 registers.
constexpr int kGemmTokens = 8;
constexpr int kGroupVecs = kGroupSize / kLanes;

// Both halves of four groups.
struct WeightVecs {
  __m512i first, second;
};

inline __mmask64 first_bytes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

template <bool kWhole>
inline __m512i load_bytes(const uint8_t* bytes, int64_t count) {
  if (kWhole) return _mm512_loadu_si512(bytes);
  return _mm512_maskz_loadu_epi8(first_bytes(count < 0 ? 0 : count), bytes);
}

// `count` groups from `group` on, four of them when kWhole; 0 beyond.
template <bool kInt4, bool kWhole>
inline WeightVecs load_weights(const IntegerRow& row, int64_t group, int64_t count) {
  if (kInt4) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i bytes = load_bytes<kWhole>(row.values + 16 * group, 16 * count);
    return {_mm512_and_si512(bytes, nibble), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble)};
  }
  const uint8_t* values = row.values + 32 * group;
  const __m512i low = load_bytes<kWhole>(values, 32 * count);
  const __m512i high = load_bytes<kWhole>(values + 64, 32 * count - 64);
  const __m512i first = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
  const __m512i second = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
  return {_mm512_permutex2var_epi64(low, first, high),
          _mm512_permutex2var_epi64(low, second, high)};
}

// kScaleBlock scales from `group` on, 0 from `count` on.
inline __m512 scales_at(const IntegerRow& row, int64_t group, int64_t count) {
  const __mmask16 valid = static_cast<__mmask16>((1u << count) - 1u);
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(valid, row.scales + 2 * group));
}

inline void load_scales(const IntegerRow& row, int64_t group, int64_t count, float* scales) {
  _mm512_storeu_ps(scales, scales_at(row, group, count));
}

// Scales first..first + 3, each in four lanes.
inline __m512 spread(__m512 scales, int64_t first) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(first)));
  return _mm512_permutexvar_ps(index, scales);
}

// The same from memory, in one 128-bit lane each.
inline __m512 spread(const float* scales) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(scales)), lanes);
}

// Sums of the lanes of four vectors.
inline __m128 sum_four(const __m512* v) {
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b));
  const __m512 sums = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Adds four groups (`count` of them when not kWhole) from first + i on; scales are those of
// first..first + 15, for one token times its own.
template <bool kInt4, bool kWhole, int kRows, int kTokens>
inline void multiply_step(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          int64_t first, int64_t i, int64_t count, const __m512* scales,
                          __m512 (&sums)[kRows * kTokens]) {
  const int64_t stride = quantised_stride(depth), group = first + i;
  WeightVecs weights[kRows];
  __m512 row_scales[kRows];
  GLASS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    weights[r] = load_weights<kInt4, kWhole>(rows[r], group, count);
    row_scales[r] = spread(scales[r], i);
  }
  GLASS_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const int8_t* values = x.values + t * stride + 16 * group;
    const __m512i low = _mm512_loadu_si512(values);
    const __m512i high = _mm512_loadu_si512(values + stride / 2);
    const __m512i offsets = _mm512_loadu_si512(x.offsets + t * offsets_stride(depth) + 4 * group);
    const __m512 token_scales = spread(x.scales + t * scales_stride(depth) + group);
    GLASS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512i dot = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(offsets, weights[r].first, low),
                                              weights[r].second, high);
      const __m512 factor =
          kTokens == 1 ? row_scales[r] : _mm512_mul_ps(row_scales[r], token_scales);
      __m512& sum = sums[r * kTokens + t];
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, sum);
    }
  }
}

// products[r * kTokens + t] = row r times token t; kRows * kTokens is a multiple of 2.
template <bool kInt4, int kRows, int kTokens>
inline void multiply_rows(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          Fetch& fetch, float* products) {
  constexpr int64_t kLines = kRows * (kInt4 ? 1 : 2) + kRows / 2;
  const int64_t groups = depth / kGroupSize;
  __m512 sums[kRows * kTokens];
  GLASS_UNROLL
  for (int i = 0; i < kRows * kTokens; ++i) sums[i] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; g += kScaleBlock) {
    const int64_t count = smaller(kScaleBlock, groups - g);
    __m512 scales[kRows];
    GLASS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      scales[r] = scales_at(rows[r], g, count);
      if (kTokens == 1) scales[r] = _mm512_mul_ps(scales[r], _mm512_loadu_ps(x.scales + g));
    }
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
      fetch.lines(kLines);
      multiply_step<kInt4, true, kRows, kTokens>(rows, x, depth, g, i, 4, scales, sums);
    }
    if (i < count) {
      multiply_step<kInt4, false, kRows, kTokens>(rows, x, depth, g, i, count - i, scales, sums);
    }
  }
  int i = 0;
  for (; i + 4 <= kRows * kTokens; i += 4) _mm_storeu_ps(products + i, sum_four(sums + i));
  for (; i < kRows * kTokens; ++i) products[i] = _mm512_reduce_add_ps(sums[i]);
}

// The integers of a group: of int4 the nibbles are looked up.
template <bool kInt4>
inline void group_floats(const uint8_t* bytes, Vec (&values)[kGroupVecs]) {
  const auto* quads = reinterpret_cast<const __m128i*>(bytes);
  if (kInt4) {
    const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i nibbles = _mm512_cvtepu8_epi32(_mm_loadu_si128(quads));
    values[0] = _mm512_permutexvar_ps(nibbles, table);
    values[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4), table);
    return;
  }
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));
  for (int v = 0; v < kGroupVecs; ++v) {
    const __m128i signed_bytes = _mm_xor_si128(_mm_loadu_si128(quads + v), flip);
    values[v] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(signed_bytes));
  }
}

}  // namespace
}  // namespace glass::internal
