// Products with integer weights for AVX2, with AVX-VNNI where __AVXVNNI__ is defined.
//
// A vector holds two groups: each 128-bit lane one, the first halves in one vector and the second
// halves in another, as the nibbles of int4 are stored. The stored bytes are the weights plus 8 or
// 128; the token's offsets take that off, but for int8 without VNNI: there a 16-bit sum of products
// of the stored bytes would overflow, so |weight| is multiplied by x with the weight's sign.
#pragma once

#include <immintrin.h>

#include "kernels/integer_kernels.h"
#include "kernels/integer_row.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// Tokens of a tile of two rows: 2 x 4 sums of 16 registers.
constexpr int kGemmTokens = 4;
constexpr int kGroupVecs = kGroupSize / kLanes;

// Both halves of two groups.
struct WeightVecs {
  __m256i first, second;
};

inline __m256i load_bytes(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}

// One group's 16 or 32 bytes; 0 beyond.
template <bool kInt4>
inline __m256i load_last(const uint8_t* bytes) {
  if (!kInt4) return load_bytes(bytes);
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return _mm256_inserti128_si256(_mm256_setzero_si256(), low, 0);
}

// The groups `group` and, when kWhole, `group` + 1.
template <bool kInt4, bool kWhole>
inline WeightVecs load_weights(const IntegerRow& row, int64_t group) {
  if (kInt4) {
    const uint8_t* values = row.values + 16 * group;
    const __m256i bytes = kWhole ? load_bytes(values) : load_last<true>(values);
    const __m256i nibble = _mm256_set1_epi8(15);
    return {_mm256_and_si256(bytes, nibble), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble)};
  }
  const uint8_t* values = row.values + 32 * group;
  const __m256i low = load_bytes(values);
  const __m256i high = kWhole ? load_bytes(values + 32) : _mm256_setzero_si256();
  return {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}

#if defined(__AVXVNNI__)
template <bool kInt4>
inline __m256i dot(const WeightVecs& weights, __m256i low, __m256i high, __m256i offsets) {
  const __m256i sums = _mm256_dpbusd_avx_epi32(offsets, weights.first, low);
  return _mm256_dpbusd_avx_epi32(sums, weights.second, high);
}
#else
inline __m256i multiply_signed(__m256i weights, __m256i x) {
  const __m256i value = _mm256_xor_si256(weights, _mm256_set1_epi8(static_cast<char>(0x80)));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(x, value));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

template <bool kInt4>
inline __m256i dot(const WeightVecs& weights, __m256i low, __m256i high, __m256i offsets) {
  if (!kInt4) {
    return _mm256_add_epi32(multiply_signed(weights.first, low),
                            multiply_signed(weights.second, high));
  }
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(weights.first, low),
                                         _mm256_maddubs_epi16(weights.second, high));
  return _mm256_add_epi32(offsets, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

// 8 scales from `group` on, 0 from `count` on.
inline __m256 scales_at(const IntegerRow& row, int64_t group, int64_t count) {
  if (count <= 0) return _mm256_setzero_ps();
  const uint8_t* scales = row.scales + 2 * group;
  if (count >= 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
  alignas(16) uint16_t halves[8] = {};
  std::memcpy(halves, scales, static_cast<size_t>(2 * count));
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(halves)));
}

// kScaleBlock scales from `group` on, 0 from `count` on.
inline void load_scales(const IntegerRow& row, int64_t group, int64_t count, float* scales) {
  for (int64_t i = 0; i < kScaleBlock; i += 8) {
    _mm256_storeu_ps(scales + i, scales_at(row, group + i, count - i));
  }
}

// Scales `first` and first + 1, each in four lanes.
inline __m256 spread(__m256 scales, int64_t first) {
  const __m256i lanes = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  const __m256i index = _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int32_t>(first)));
  return _mm256_permutevar8x32_ps(scales, index);
}

// The same from memory.
inline __m256 spread(const float* scales) {
  double both;
  std::memcpy(&both, scales, sizeof(both));
  const __m256i lanes = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  return _mm256_permutevar_ps(_mm256_castpd_ps(_mm256_set1_pd(both)), lanes);
}

// Sums of the lanes of four vectors.
inline __m128 sum_four(const __m256* v) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

// Adds two groups (one when not kWhole) from first + i on; scales are those of first..first + 7,
// for one token times its own.
template <bool kInt4, bool kWhole, int kRows, int kTokens>
inline void multiply_step(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          int64_t first, int64_t i, const __m256* scales,
                          __m256 (&sums)[kRows * kTokens]) {
  const int64_t stride = quantised_stride(depth), group = first + i;
  WeightVecs weights[kRows];
  __m256 row_scales[kRows];
  GLASS_UNROLL
  for (int r = 0; r < kRows; ++r) {
    weights[r] = load_weights<kInt4, kWhole>(rows[r], group);
    row_scales[r] = spread(scales[r], i);
  }
  GLASS_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const int8_t* values = x.values + t * stride + 16 * group;
    const __m256i low = load_bytes(values), high = load_bytes(values + stride / 2);
    const __m256i offsets = load_bytes(x.offsets + t * offsets_stride(depth) + 4 * group);
    const __m256 token_scales = spread(x.scales + t * scales_stride(depth) + group);
    GLASS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m256 product = _mm256_cvtepi32_ps(dot<kInt4>(weights[r], low, high, offsets));
      const __m256 factor =
          kTokens == 1 ? row_scales[r] : _mm256_mul_ps(row_scales[r], token_scales);
      __m256& sum = sums[r * kTokens + t];
      sum = _mm256_fmadd_ps(product, factor, sum);
    }
  }
}

// products[r * kTokens + t] = row r times token t.
template <bool kInt4, int kRows, int kTokens>
inline void multiply_rows(const IntegerRow* rows, const QuantisedTokens& x, int64_t depth,
                          Fetch& fetch, float* products) {
  constexpr int64_t kLines = kInt4 ? (3 * kRows + 3) / 4 : kRows + kRows / 4;
  const int64_t groups = depth / kGroupSize;
  __m256 sums[kRows * kTokens];
  GLASS_UNROLL
  for (int i = 0; i < kRows * kTokens; ++i) sums[i] = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; g += 8) {
    const int64_t count = smaller(8, groups - g);
    __m256 scales[kRows];
    GLASS_UNROLL
    for (int r = 0; r < kRows; ++r) {
      scales[r] = scales_at(rows[r], g, count);
      if (kTokens == 1) scales[r] = _mm256_mul_ps(scales[r], _mm256_loadu_ps(x.scales + g));
    }
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
      fetch.lines(kLines);
      multiply_step<kInt4, true, kRows, kTokens>(rows, x, depth, g, i, scales, sums);
    }
    if (i < count) multiply_step<kInt4, false, kRows, kTokens>(rows, x, depth, g, i, scales, sums);
  }
  int i = 0;
  for (; i + 4 <= kRows * kTokens; i += 4) _mm_storeu_ps(products + i, sum_four(sums + i));
  for (; i < kRows * kTokens; ++i) products[i] = sum(sums[i]);
}

// 16 signed bytes as floats.
inline void bytes_to_floats(__m128i bytes, Vec* values) {
  values[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  values[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)));
}

// The integers of a group.
template <bool kInt4>
inline void group_floats(const uint8_t* bytes, Vec (&values)[kGroupVecs]) {
  const auto* quads = reinterpret_cast<const __m128i*>(bytes);
  const __m128i packed = _mm_loadu_si128(quads);
  if (kInt4) {
    const __m128i nibble = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
    bytes_to_floats(_mm_sub_epi8(_mm_and_si128(packed, nibble), eight), values);
    bytes_to_floats(_mm_sub_epi8(high, eight), values + 2);
    return;
  }
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));
  bytes_to_floats(_mm_xor_si128(packed, flip), values);
  bytes_to_floats(_mm_xor_si128(_mm_loadu_si128(quads + 1), flip), values + 2);
}

}  // namespace
}  // namespace glass::internal
