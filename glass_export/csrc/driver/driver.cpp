#include "driver/driver.h"

#include <algorithm>
#include <utility>

#include "driver/clock.h"
#include "driver/span.h"

namespace glass {

Driver::Driver(std::unique_ptr<Backend> backend, ModelInfo model, Priors priors)
    : backend_(std::move(backend)), model_(std::move(model)), priors_(std::move(priors)) {}

void Driver::reset() {
  cache_ = TokenCache();
  refresh_.reset();
}

Outcome Driver::check_cancelled() const {
  if (cancelled_ == nullptr || !*cancelled_) return Done{};
  return failure("cancelled").as(ErrorCode::kCancelled);
}

Outcome Driver::check_tokens(const char* call, Span<const int64_t> tokens, int64_t length) const {
  if (tokens.size == 0) {
    return failure(call, ": got no tokens, expected at least one").as(ErrorCode::kInvalidArgument);
  }
  const int64_t needed = length + static_cast<int64_t>(tokens.size);
  if (needed > model_.max_length) {
    return failure(call, ": got ", needed, " tokens, the context holds ", model_.max_length,
                   "; shorten the prompt, or export the model again with a larger "
                   "export.max_length")
        .as(ErrorCode::kContextFull);
  }
  for (const int64_t token : tokens) {
    if (token < 0 || token >= model_.vocab_size) {
      return failure(call, ": token id ", token, " is not in the vocabulary, expected 0 to ",
                     model_.vocab_size - 1)
          .as(ErrorCode::kInvalidArgument);
    }
  }
  return Done{};
}

Result<Prompted> Driver::prefill(Span<const int64_t> tokens, Span<const float> score_weights) {
  if (Outcome fits = check_tokens("prefill", tokens, 0); !fits) return fits.failure();
  if (score_weights.size != tokens.size) {
    return failure("prefill: got ", score_weights.size, " score weights, expected one for each of ",
                   "the ", tokens.size, " tokens")
        .as(ErrorCode::kInvalidArgument);
  }
  refresh_.reset();
  backend_->begin_prompt();
  const int64_t reused = cache_.rewind(tokens, score_weights);
  const auto start = static_cast<size_t>(reused);
  Result<Span<const float>> logits = append(
      part(tokens, start, tokens.size - start), part(score_weights, start, tokens.size - start),
      [this](Span<const int64_t> ids, Span<const float> weights, LocalSums sums) {
        cache_.prefilled(ids, weights, std::move(sums));
      });
  if (!logits) return logits.failure();
  return Prompted{*logits, reused};
}

Result<Span<const float>> Driver::append(Span<const int64_t> tokens,
                                         Span<const float> score_weights, const Note& note) {
  Span<const float> logits;
  const auto chunk = static_cast<size_t>(model_.prefill_chunk);
  for (size_t start = 0; start < tokens.size; start += chunk) {
    if (Outcome go_on = check_cancelled(); !go_on) return go_on.failure();
    const Span<const int64_t> ids = part(tokens, start, chunk);
    const Span<const float> weights = part(score_weights, start, chunk);
    Result<PrefillViews> views = backend_->prefill(ids, cache_.length(), weights);
    if (!views) return views.failure();
    Result<LocalSums> sums = sums_of(*views, weights);
    if (!sums) return sums.failure();
    note(ids, weights, std::move(*sums));
    logits = views->logits;
  }
  return check_logits(logits);
}

Result<LocalSums> Driver::sums_of(const PrefillViews& views,
                                  Span<const float> score_weights) const {
  if (views.abs_sum.size != neuron_count() || views.sq_sum.size != neuron_count()) {
    return failure("prefill: got statistics of ", views.abs_sum.size,
                   " neurons, expected L * F = ", neuron_count(), "; export the model again");
  }
  double scored = 0;
  for (const float weight : score_weights) scored += weight;
  LocalSums sums(scored > 0 ? neuron_count() : 0);
  if (scored > 0) sums.add(views, scored);
  return sums;
}

Outcome Driver::select(const SelectionSettings& settings) {
  refresh_.reset();
  refresh_figures_ = {};
  Result<std::vector<int64_t>> budgets = layer_budgets(settings, model_.rows(), model_.d_ff);
  if (!budgets) return budgets.failure().as(ErrorCode::kInvalidArgument);
  if (*std::min_element(budgets->begin(), budgets->end()) == model_.d_ff) return use_all();
  // At a dense start too, so that what cannot be chosen fails before the answer.
  const LocalSums sums = cache_.sums(neuron_count());
  Result<std::vector<int32_t>> chosen = choose(settings, sums);
  if (!chosen) return chosen.failure().as(ErrorCode::kInvalidArgument);
  if (settings.dense_start > 0 || settings.refresh > 0) {
    refresh_.emplace(settings, sums, *chosen, model_.rows());
  }
  return settings.dense_start > 0 ? use_all() : backend_->select(std::move(*chosen));
}

Outcome Driver::use_all() {
  std::vector<int32_t> neurons(neuron_count());
  for (size_t i = 0; i < neurons.size(); ++i) {
    neurons[i] = static_cast<int32_t>(static_cast<int64_t>(i) % model_.d_ff);
  }
  return backend_->select(std::move(neurons));
}

Result<std::vector<int32_t>> Driver::choose(const SelectionSettings& settings,
                                            const LocalSums& sums) {
  if (Outcome valid = check_rule(settings); !valid) return valid.failure();
  Result<std::vector<int64_t>> budgets = layer_budgets(settings, model_.rows(), model_.d_ff);
  if (!budgets) return budgets.failure();
  Result<Prior> prior = priors_.of(settings);
  if (!prior) return prior.failure();
  const int64_t most = *std::max_element(budgets->begin(), budgets->end());
  const Parallel parallel = backend_->parallel();
  std::vector<int32_t> chosen(static_cast<size_t>(model_.rows() * most));
  std::vector<uint32_t> scratch(select_neurons_scratch(model_.d_ff, parallel.threads));
  const Status status =
      select_neurons(sums.view(), *prior, settings.rule, model_.rows(), model_.d_ff, all(chosen),
                     all(scratch), parallel, all(std::as_const(*budgets)));
  if (status != Status::kOk) return selection_failure(status);
  return chosen;
}

Result<Span<const float>> Driver::decode(int64_t token) {
  const Span<const int64_t> tokens{&token, 1};
  if (Outcome fits = check_tokens("decode", tokens, cache_.length()); !fits) return fits.failure();
  if (refresh_ && refresh_->due()) return decode_by_refresh(token);
  if (Outcome go_on = check_cancelled(); !go_on) return go_on.failure();
  Result<Span<const float>> logits = backend_->decode(token, cache_.length());
  if (!logits) return logits.failure();
  cache_.answered(tokens);
  if (refresh_) refresh_->decoded(token);
  return check_logits(*logits);
}

Result<Span<const float>> Driver::decode_by_refresh(int64_t token) {
  const Clock::time_point start = Clock::now();
  Refresh refresh = std::move(*refresh_);
  refresh_.reset();  // until it has succeeded
  std::vector<int64_t> tokens = refresh.tokens();
  cache_.truncate(cache_.length() - static_cast<int64_t>(tokens.size()));
  tokens.push_back(token);
  const std::vector<float> weights(tokens.size(), 1.0f);
  Result<Span<const float>> logits =
      append(all(std::as_const(tokens)), all(weights),
             [&](Span<const int64_t> ids, Span<const float>, const LocalSums& sums) {
               cache_.answered(ids);
               refresh.sums().add(sums);
             });
  if (!logits) return logits;
  Result<std::vector<int32_t>> chosen = choose(refresh.settings(), refresh.sums());
  if (!chosen) return chosen.failure();
  if (Outcome taken = backend_->select(*chosen); !taken) return taken.failure();
  refresh.chosen(std::move(*chosen));
  refresh_ = std::move(refresh);
  ++refresh_figures_.count;
  refresh_figures_.ms += milliseconds(start, Clock::now());
  return logits;
}

Result<Span<const float>> Driver::check_logits(Span<const float> logits) const {
  if (logits.size == static_cast<size_t>(model_.vocab_size)) return logits;
  return failure("logits: got ", logits.size, ", expected one for each of the ", model_.vocab_size,
                 " tokens of the vocabulary; export the model again");
}

}  // namespace glass
