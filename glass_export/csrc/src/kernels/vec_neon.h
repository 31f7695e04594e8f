// Vectors of 4 floats for 64-bit Arm. See vec_portable.h for what each function does.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace glass::internal {
namespace {

using Vec = float32x4_t;

constexpr int64_t kLanes = 4;
constexpr int kTokenVecs = 4;   // 6 x 4 accumulators and 4 + 1 operands of 32 registers
constexpr int kColumnVecs = 4;  // 4 x 4 accumulators and 4 + 1 operands

inline Vec zero() { return vdupq_n_f32(0.0f); }
inline Vec broadcast(float x) { return vdupq_n_f32(x); }
inline Vec load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, Vec v) { vst1q_f32(p, v); }
inline Vec load_first(const float* p, int64_t count) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}
inline void store_first(float* p, Vec v, int64_t count) {
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

inline Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
inline Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
inline Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
inline Vec div(Vec a, Vec b) { return vdivq_f32(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
inline Vec abs(Vec a) { return vabsq_f32(a); }
inline Vec sqrt(Vec a) { return vsqrtq_f32(a); }
inline Vec max(Vec a, Vec b) { return vmaxq_f32(a, b); }
inline Vec min(Vec a, Vec b) { return vminq_f32(a, b); }
inline Vec select_less(Vec a, Vec b, Vec yes, Vec no) {
  return vbslq_f32(vcltq_f32(a, b), yes, no);
}
inline Vec round(Vec a) { return vrndnq_f32(a); }
inline Vec power_of_two(Vec n) {
  const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
}
inline float sum(Vec a) { return vaddvq_f32(a); }
inline void prefetch(const float* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace
}  // namespace glass::internal
