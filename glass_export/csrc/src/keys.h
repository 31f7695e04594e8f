// Unsigned keys in the order of the scores, and what is chosen by them: no result depends on how a
// processor compares floats, nor on the algorithm of a sort.
#pragma once

#include <cstdint>
#include <cstring>

#include "glass/base.h"

namespace glass::internal {

constexpr uint32_t kSign = 1u << 31;
constexpr uint32_t kInfinity = 0x7F800000u;

// The key of a finite float; +0.0 and -0.0 have the same.
inline uint32_t key_of(float score) {
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  const uint32_t magnitude = bits & ~kSign;
  return bits == magnitude ? kSign + magnitude : kSign - magnitude;
}

inline bool is_finite_key(uint32_t key) {
  return key < kSign + kInfinity && key > kSign - kInfinity;
}

// Ranks [F] of keys [F], 0..F-1, for F up to 2^21; larger is more important, ties to the lower
// index. order [F] is scratch.
void rank_keys(const uint32_t* keys, int64_t count, uint32_t* order, int32_t* ranks);

// The K largest of keys [F], ties to the lower index: neurons [K] ascending. candidates [F] is
// scratch.
void top_k_keys(const uint32_t* keys, int64_t count, uint32_t* candidates, Span<int32_t> neurons);

}  // namespace glass::internal
