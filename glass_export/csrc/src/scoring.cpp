// Compiled without contraction: see scores.h.
#include "glass/scoring.h"

#include <cmath>

#include "internal.h"
#include "keys.h"
#include "scores.h"

namespace glass {
namespace {

using internal::fuse_ranks;
using internal::has_size;
using internal::is_valid;
using internal::is_valid_lambda;
using internal::is_valid_shrinkage;
using internal::kMaxBordaWidth;
using internal::local_score;
using internal::LocalScore;
using internal::make_keys;
using internal::rank_keys;
using internal::shrink;
using internal::sums_of;
using internal::top_k_keys;

constexpr int64_t kMaxRanked = int64_t{1} << 21;

// How often a square root is taken for a sensitivity; -1 when it is none.
int square_roots(double sensitivity) {
  if (sensitivity == 1.0) return 0;
  if (sensitivity == 0.5) return 1;
  return sensitivity == 0.25 ? 2 : -1;
}

bool is_mean_of_squares(float value) { return value >= 0.0f && std::isfinite(value); }

bool is_valid_choice(size_t scores, Span<int32_t> neurons) {
  return scores > 0 && neurons.data != nullptr && neurons.size > 0 && neurons.size <= scores;
}

}  // namespace

Status local_scores(const TokenSums& sums, LocalForm form, Span<float> scores) {
  const auto size = static_cast<int64_t>(scores.size);
  if (!is_valid(form) || !has_size(scores, size) || !has_size(sums_of(sums, form), size)) {
    return Status::kInvalidArgument;
  }
  if (!(sums.tokens > 0.0)) return Status::kNoScoredToken;
  const LocalScore score = local_score(sums, form, 0);
  for (int64_t j = 0; j < size; ++j) scores[static_cast<size_t>(j)] = score(j);
  return Status::kOk;
}

Status ranks(Span<const float> scores, Span<int32_t> ranks, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (count == 0 || count > kMaxRanked || !has_size(scores, count) || !has_size(ranks, count)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  const auto score = [&](int64_t j) { return scores.data[j]; };
  if (!make_keys(count, score, scratch.data)) return Status::kNotFinite;
  rank_keys(scratch.data, count, scratch.data + count, ranks.data);
  return Status::kOk;
}

Status borda(Span<const int32_t> local_ranks, Span<const int32_t> prior_ranks, double lam,
             Span<uint32_t> fused) {
  const auto count = static_cast<int64_t>(local_ranks.size);
  if (count > kMaxBordaWidth || !is_valid_lambda(lam) || !has_size(local_ranks, count) ||
      !has_size(prior_ranks, count) || !has_size(fused, count)) {
    return Status::kInvalidArgument;
  }
  fuse_ranks(local_ranks.data, prior_ranks.data, count, lam, fused.data);
  return Status::kOk;
}

Status shrinkage(Span<const float> local_mean, double tokens, Span<const float> prior, double tau,
                 Span<float> fused, Span<const double> weights) {
  const auto count = static_cast<int64_t>(local_mean.size);
  if (!is_valid_shrinkage(tokens, tau) || !has_size(local_mean, count) || !has_size(prior, count) ||
      !has_size(fused, count) || (weights.size != 0 && !has_size(weights, count))) {
    return Status::kInvalidArgument;
  }
  for (size_t j = 0; j < fused.size; ++j) {
    const double weight = weights.size == 0 ? 1.0 : weights[j];
    fused[j] = shrink(local_mean[j], tokens, prior[j], tau, weight);
  }
  return Status::kOk;
}

Status sensitivity_weights(Span<const float> effect, Span<const float> activity, double sensitivity,
                           Span<double> weights) {
  const auto count = static_cast<int64_t>(effect.size);
  const int roots = square_roots(sensitivity);
  if (roots < 0 || !has_size(effect, count) || !has_size(activity, count) ||
      !has_size(weights, count)) {
    return Status::kInvalidArgument;
  }
  for (size_t j = 0; j < weights.size; ++j) {
    if (!is_mean_of_squares(effect[j]) || !is_mean_of_squares(activity[j])) {
      return Status::kNotFinite;
    }
    double weight = 0.0;
    if (activity[j] > 0.0f) {
      weight = static_cast<double>(effect[j]) / static_cast<double>(activity[j]);
    }
    for (int i = 0; i < roots; ++i) weight = std::sqrt(weight);
    weights[j] = weight;
  }
  return Status::kOk;
}

Status top_k(Span<const float> scores, Span<int32_t> neurons, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (!has_size(scores, count) || !is_valid_choice(scores.size, neurons)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  const auto score = [&](int64_t j) { return scores.data[j]; };
  if (!make_keys(count, score, scratch.data)) return Status::kNotFinite;
  top_k_keys(scratch.data, count, scratch.data + count, neurons);
  return Status::kOk;
}

Status top_k(Span<const uint32_t> scores, Span<int32_t> neurons, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (!has_size(scores, count) || !is_valid_choice(scores.size, neurons)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  top_k_keys(scores.data, count, scratch.data, neurons);
  return Status::kOk;
}

Status prior_ranks(Span<const float> scores, int64_t layers, int64_t d_ff, Span<int32_t> result,
                   Span<uint32_t> scratch) {
  if (layers <= 0 || d_ff <= 0 || !has_size(scores, layers * d_ff) ||
      !has_size(result, layers * d_ff)) {
    return Status::kInvalidArgument;
  }
  const auto width = static_cast<size_t>(d_ff);
  for (int64_t l = 0; l < layers; ++l) {
    const Status status =
        ranks({scores.data + l * d_ff, width}, {result.data + l * d_ff, width}, scratch);
    if (status != Status::kOk) return status;
  }
  return Status::kOk;
}

}  // namespace glass
