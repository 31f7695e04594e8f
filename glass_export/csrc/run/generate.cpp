#include "run/generate.h"

#include <algorithm>
#include <cmath>

namespace glass::run {
namespace {

bool contains(const std::vector<int64_t>& values, int64_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

double per_second(size_t count, double elapsed_ms) {
  return elapsed_ms > 0 ? static_cast<double>(count) / elapsed_ms * 1e3 : 0;
}

// Takes the most likely token and decodes it, until the answer ends.
Result<Answer> decode_answer(Model& model, Span<const float> logits, const Request& request,
                             const std::function<void(int64_t)>& on_token) {
  Answer answer;
  Clock::time_point first, last;
  for (size_t sampled = 1;; ++sampled) {
    const Result<int64_t> token = greedy(logits);
    if (!token) return token.failure();
    last = Clock::now();
    if (sampled == 1) first = last;
    answer.figures.ttft_ms = milliseconds(request.asked, first);
    answer.figures.decode_tps = per_second(sampled - 1, milliseconds(first, last));
    if (contains(model.info().eos_token_ids, *token)) return answer;
    answer.tokens.push_back(*token);
    on_token(*token);
    answer.reason = FinishReason::kLength;
    if (static_cast<int64_t>(answer.tokens.size()) == request.max_new_tokens) return answer;
    answer.reason = FinishReason::kContext;
    if (model.length() == model.info().max_length) return answer;
    answer.reason = FinishReason::kStop;
    Result<Span<const float>> next = model.decode(*token);
    if (!next) return next.failure();
    logits = *next;
  }
}

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
  }
  return "";
}

std::vector<float> score_weights(const std::vector<int64_t>& tokens,
                                 const std::vector<int64_t>& special, LocalTokens counted) {
  std::vector<float> weights(tokens.size(), 1.0f);
  if (counted == LocalTokens::kAll) return weights;
  for (size_t i = 0; i < tokens.size(); ++i) weights[i] = contains(special, tokens[i]) ? 0 : 1;
  if (std::find(weights.begin(), weights.end(), 1.0f) == weights.end()) {
    std::fill(weights.begin(), weights.end(), 1.0f);
  }
  return weights;
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
                   "on it, or export it again");
  }
  return static_cast<int64_t>(best - logits.begin());
}

Result<Answer> generate(Model& model, const Request& request,
                        const std::function<void(int64_t)>& on_token) {
  const std::vector<int64_t>& tokens = request.tokens;
  const std::vector<float> weights =
      score_weights(tokens, model.info().special_token_ids, request.selection.local_tokens);
  model.reset();

  const Clock::time_point start = Clock::now();
  Result<Span<const float>> logits =
      model.prefill({tokens.data(), tokens.size()}, {weights.data(), weights.size()});
  if (!logits) return logits.failure();
  const Clock::time_point prefilled = Clock::now();
  if (Outcome chosen = model.select(request.selection); !chosen) return chosen.failure();
  const Clock::time_point selected = Clock::now();
  Result<Answer> answer = decode_answer(model, *logits, request, on_token);
  if (!answer) return answer;

  Figures& figures = answer->figures;
  figures.prompt_tokens = static_cast<int64_t>(tokens.size());
  figures.prefill_tps = per_second(tokens.size(), milliseconds(start, prefilled));
  figures.fusion_ms = milliseconds(prefilled, selected);
  figures.refreshes = model.refresh_figures().count;
  figures.refresh_ms = model.refresh_figures().ms;
  figures.kept_neurons = kept_neurons(request.selection.density, model.info().d_ff);
  return answer;
}

}  // namespace glass::run
