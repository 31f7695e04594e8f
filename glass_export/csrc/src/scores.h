// Scores of single neurons and of one layer, which scoring.cpp and select.cpp share. Both are
// compiled without contraction to fused multiply-add: the same bits as NumPy.
#pragma once

#include <cmath>
#include <cstdint>

#include "glass/scoring.h"
#include "keys.h"

namespace glass::internal {

constexpr double kLambdaOne = 65536.0;  // Borda weights are multiples of 1 / kLambdaOne
constexpr int64_t kMaxBordaWidth = 65536;

// keys[j] = key of score(j); false when one of them is not finite.
template <class Score>
bool make_keys(int64_t count, const Score& score, uint32_t* keys) {
  bool finite = true;
  for (int64_t j = 0; j < count; ++j) {
    keys[j] = key_of(score(j));
    finite &= is_finite_key(keys[j]);
  }
  return finite;
}

inline bool is_valid_lambda(double lam) { return lam >= 0.0 && lam <= 1.0; }

inline uint32_t prior_weight(double lam) {
  return static_cast<uint32_t>(std::floor(lam * kLambdaOne + 0.5));
}

inline void fuse_ranks(const int32_t* local, const int32_t* prior, int64_t count, double lam,
                       uint32_t* fused) {
  const uint32_t weight = prior_weight(lam), rest = 65536u - weight;
  for (int64_t j = 0; j < count; ++j) {
    fused[j] = static_cast<uint32_t>(local[j]) * rest + static_cast<uint32_t>(prior[j]) * weight;
  }
}

inline bool is_valid_shrinkage(double tokens, double tau) {
  return tokens >= 0.0 && tau >= 0.0 && tokens + tau > 0.0 && std::isfinite(tokens) &&
         std::isfinite(tau);
}

// `weight` 1 leaves the mean as it is, bit by bit.
inline float shrink(float local, double tokens, float prior, double tau, double weight) {
  const double weighted = tokens * static_cast<double>(local) + tau * static_cast<double>(prior);
  return static_cast<float>(weighted / (tokens + tau) * weight);
}

inline bool is_valid(LocalForm form) {
  return form >= LocalForm::kA && form <= LocalForm::kSquared;
}

// The local score of neurons [begin, begin + count) as a function of j.
struct LocalScore {
  LocalForm form;
  const float* sums;
  float tokens;

  float operator()(int64_t j) const {
    return form == LocalForm::kGriffin ? std::sqrt(sums[j]) : sums[j] / tokens;
  }
};

inline const Span<const float>& sums_of(const TokenSums& sums, LocalForm form) {
  return form == LocalForm::kA ? sums.abs_sum : sums.sq_sum;
}

inline LocalScore local_score(const TokenSums& sums, LocalForm form, int64_t begin) {
  return {form, sums_of(sums, form).data + begin, static_cast<float>(sums.tokens)};
}

}  // namespace glass::internal
