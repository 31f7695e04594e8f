// Vectors of 4 floats with the vector extension of GCC and Clang, for any processor.
//
// This file is the reference of the interface that every vec_*.h has. The names lie in an unnamed
// namespace and nothing of the standard library's inline code is used here or in the kernels: an
// inline function compiled for one processor must never be the one that the linker keeps for all.
#pragma once

#include <cstdint>
#include <cstring>

namespace glass::internal {
namespace {

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t IntVec __attribute__((vector_size(16)));

constexpr int64_t kLanes = 4;   // floats in a vector
constexpr int kTokenVecs = 1;   // vectors of tokens in the register tile of rows x panel
constexpr int kColumnVecs = 2;  // vectors of columns in the register tile of 4 tokens x columns

inline Vec zero() { return Vec{}; }
inline Vec broadcast(float x) { return Vec{x, x, x, x}; }
inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
// The first `count` lanes from memory, 0 in the others; nothing beyond is read.
inline Vec load_first(const float* p, int64_t count) {
  Vec v = zero();
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
inline void store_first(float* p, Vec v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}

inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec div(Vec a, Vec b) { return a / b; }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec select(IntVec mask, Vec yes, Vec no) {
  return reinterpret_cast<Vec>((mask & reinterpret_cast<IntVec>(yes)) |
                               (~mask & reinterpret_cast<IntVec>(no)));
}
// Lane by lane a < b ? yes : no; a NaN is not less.
inline Vec select_less(Vec a, Vec b, Vec yes, Vec no) { return select(a < b, yes, no); }
// A NaN in b stays, so the constant goes first.
inline Vec max(Vec a, Vec b) { return select(a > b, a, b); }
inline Vec min(Vec a, Vec b) { return select(a < b, a, b); }
inline Vec abs(Vec a) { return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(a) & INT32_MAX); }
inline Vec sqrt(Vec a) {
  for (int64_t i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
// To the nearest integer, for |a| < 2^22.
inline Vec round(Vec a) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23
  return (a + magic) - magic;
}
// 2^n for integers n from -127, which gives 0, to 127.
inline Vec power_of_two(Vec n) {
  return reinterpret_cast<Vec>((__builtin_convertvector(n, IntVec) + 127) << 23);
}
inline float sum(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
// Brings the cache line at p into the second level of cache: what is fetched a few kilobytes ahead
// would be driven out of the first before it is used. p need not be readable.
inline void prefetch(const float* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace
}  // namespace glass::internal
