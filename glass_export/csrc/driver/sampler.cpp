#include "driver/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "driver/span.h"

namespace glass {
namespace {

Outcome require(const char* name, double value, bool valid, const char* expected) {
  if (valid && std::isfinite(value)) return Done{};
  return failure("sampling: ", name, " is ", value, ", expected ", expected)
      .as(ErrorCode::kInvalidArgument);
}

}  // namespace

Outcome check_sampling(const SamplingSettings& settings) {
  const double temperature = settings.temperature, top_p = settings.top_p, min_p = settings.min_p;
  const double penalty = settings.repetition_penalty;
  const Outcome checks[] = {
      require("temperature", temperature, temperature >= 0, "0 (greedy) or more"),
      require("top_k", static_cast<double>(settings.top_k), settings.top_k >= 0,
              "0 (all tokens) or more"),
      require("top_p", top_p, top_p > 0 && top_p <= 1, "above 0 and at most 1 (all tokens)"),
      require("min_p", min_p, min_p >= 0 && min_p <= 1, "0 (all tokens) to 1"),
      require("repetition_penalty", penalty, penalty > 0, "above 0 (1 changes nothing)"),
  };
  for (const Outcome& check : checks) {
    if (!check) return check.failure();
  }
  return Done{};
}

Result<int64_t> greedy(Span<const float> logits) {
  const float* best = logits.begin();
  for (const float* logit = logits.begin(); logit != logits.end(); ++logit) {
    if (std::isnan(*logit)) {
      best = logit;
      break;
    }
    if (*logit > *best) best = logit;
  }
  if (best == logits.end() || !std::isfinite(*best)) {
    return failure("logits: the largest is ", best == logits.end() ? NAN : *best,
                   ", expected a finite number; the artifact is damaged: run `glass-export verify` "
                   "on it, or export it again")
        .as(ErrorCode::kEngine);
  }
  return static_cast<int64_t>(best - logits.begin());
}

Result<int64_t> Sampler::sample(Span<const float> logits, const std::vector<int64_t>& context) {
  if (const Result<int64_t> finite = greedy(logits); !finite) return finite;
  if (settings_.repetition_penalty != 1 && !context.empty()) {
    penalise(logits, context);
    logits = all(std::as_const(scores_));
  }
  if (settings_.temperature == 0) return greedy(logits);
  candidates_.clear();
  for (size_t i = 0; i < logits.size; ++i) {
    candidates_.push_back({static_cast<int64_t>(i), logits[i]});
  }
  keep_top_k();
  to_probabilities();
  if (settings_.top_p < 1) keep_nucleus();
  if (settings_.min_p > 0) keep_likely();
  return draw();
}

void Sampler::penalise(Span<const float> logits, const std::vector<int64_t>& context) {
  scores_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(settings_.repetition_penalty);
  for (const int64_t token : context) {
    const float logit = logits[static_cast<size_t>(token)];  // so that none is punished twice
    scores_[static_cast<size_t>(token)] = logit < 0 ? logit * penalty : logit / penalty;
  }
}

// Those equal to the k-th stay, too.
void Sampler::keep_top_k() {
  const auto count = static_cast<size_t>(settings_.top_k);
  if (count == 0 || count >= candidates_.size()) return;
  sorted_.clear();
  for (const Candidate& candidate : candidates_) sorted_.push_back(candidate.value);
  const auto kth = sorted_.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<>());
  keep_from(*kth);
}

void Sampler::to_probabilities() {
  double peak = -INFINITY, sum = 0;
  for (Candidate& candidate : candidates_) {
    candidate.value /= settings_.temperature;
    peak = std::max(peak, candidate.value);
  }
  for (Candidate& candidate : candidates_)
    sum += candidate.value = std::exp(candidate.value - peak);
  for (Candidate& candidate : candidates_) candidate.value /= sum;
}

// The fewest most likely tokens that reach top_p; those equal to the last one stay, too.
void Sampler::keep_nucleus() {
  const double tail = 1 - settings_.top_p;  // what may be dropped: below its share of V, less
  const double negligible = tail / static_cast<double>(candidates_.size());
  sorted_.clear();
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    if (candidate.value < negligible) continue;
    sorted_.push_back(candidate.value);
    sum += candidate.value;
  }
  std::sort(sorted_.begin(), sorted_.end());
  double rising = 0;
  size_t first = 0;
  while (first + 1 < sorted_.size() && (rising += sorted_[first]) + (1 - sum) <= tail) ++first;
  keep_from(sorted_[first]);
  sum = 0;
  for (const Candidate& candidate : candidates_) sum += candidate.value;
  for (Candidate& candidate : candidates_) candidate.value /= sum;
}

void Sampler::keep_likely() {
  double peak = 0;
  for (const Candidate& candidate : candidates_) peak = std::max(peak, candidate.value);
  keep_from(settings_.min_p * peak);
}

void Sampler::keep_from(double least) {
  const auto unlikely = [&](const Candidate& candidate) { return candidate.value < least; };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), unlikely),
                    candidates_.end());
}

int64_t Sampler::draw() {
  double sum = 0;
  for (const Candidate& candidate : candidates_) sum += candidate.value;
  const double drawn = random_.uniform() * sum;
  double cumulative = 0;
  for (const Candidate& candidate : candidates_) {
    cumulative += candidate.value;
    if (cumulative > drawn) return candidate.token;
  }
  return candidates_.back().token;
}

}  // namespace glass
