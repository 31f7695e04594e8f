#include "run/model.h"

#include <algorithm>
#include <utility>

#include "run/clock.h"

namespace glass::run {
namespace {

template <class T>
Span<T> part(Span<T> whole, size_t start, size_t count) {
  return {whole.data + start, std::min(count, whole.size - start)};
}

template <class T>
Span<const T> all(const std::vector<T>& values) {
  return {values.data(), values.size()};
}

template <class T>
Span<T> all(std::vector<T>& values) {
  return {values.data(), values.size()};
}

void use_all(std::vector<int32_t>& neurons, int64_t layers, int64_t d_ff) {
  neurons.resize(static_cast<size_t>(layers * d_ff));
  for (size_t i = 0; i < neurons.size(); ++i) neurons[i] = static_cast<int32_t>(i % d_ff);
}

}  // namespace

Model::Model(Program program, ModelInfo info)
    : program_(std::move(program)),
      info_(std::move(info)),
      priors_(info_.layers, info_.d_ff),
      prompt_(neuron_count()) {
  use_all(neurons_, info_.layers, info_.d_ff);
}

Result<std::unique_ptr<Model>> Model::open(const std::string& path, int64_t threads) {
  Result<Program> program = Program::open(path, threads);
  if (!program) return program.failure();
  Result<std::string> text = program->metadata();
  if (!text) return text.failure();
  Result<ModelInfo> info = parse_metadata(*text);
  if (!info) return failure(path, ": ", info.failure().message);
  if (Outcome loaded = program->load(); !loaded) return loaded.failure();
  std::unique_ptr<Model> model(new Model(std::move(*program), std::move(*info)));
  if (Outcome loaded = model->priors_.load(model->program_); !loaded) return loaded.failure();
  return model;
}

void Model::reset() {
  length_ = 0;
  prompt_ = LocalSums(neuron_count());
  refresh_.reset();
}

Outcome Model::check_tokens(const char* call, Span<const int64_t> tokens) const {
  if (tokens.size == 0) return failure(call, ": got no tokens, expected at least one");
  const int64_t needed = length_ + static_cast<int64_t>(tokens.size);
  if (needed > info_.max_length) {
    return failure(call, ": got ", needed, " tokens, the context holds ", info_.max_length,
                   "; shorten the prompt, or export the model again with a larger "
                   "export.max_length");
  }
  for (const int64_t token : tokens) {
    if (token < 0 || token >= info_.vocab_size) {
      return failure(call, ": token id ", token, " is not in the vocabulary, expected 0 to ",
                     info_.vocab_size - 1);
    }
  }
  return Done{};
}

Result<Span<const float>> Model::prefill(Span<const int64_t> tokens,
                                         Span<const float> score_weights) {
  if (Outcome fits = check_tokens("prefill", tokens); !fits) return fits.failure();
  if (score_weights.size != tokens.size) {
    return failure("prefill: got ", score_weights.size, " score weights, expected one for each of ",
                   "the ", tokens.size, " tokens");
  }
  refresh_.reset();
  return append(tokens, score_weights, prompt_);
}

Result<Span<const float>> Model::append(Span<const int64_t> tokens, Span<const float> score_weights,
                                        LocalSums& sums) {
  Span<const float> logits;
  const auto chunk = static_cast<size_t>(info_.prefill_chunk);
  for (size_t start = 0; start < tokens.size; start += chunk) {
    const Span<const int64_t> ids = part(tokens, start, chunk);
    const Span<const float> weights = part(score_weights, start, chunk);
    Result<PrefillViews> views = program_.prefill(ids, length_, weights);
    if (!views) return views.failure();
    if (Outcome added = add_statistics(*views, weights, sums); !added) return added.failure();
    length_ += static_cast<int64_t>(ids.size);
    logits = views->logits;
  }
  return check_logits(logits);
}

Outcome Model::add_statistics(const PrefillViews& views, Span<const float> score_weights,
                              LocalSums& sums) const {
  if (views.abs_sum.size != neuron_count() || views.sq_sum.size != neuron_count()) {
    return failure("prefill: got statistics of ", views.abs_sum.size,
                   " neurons, expected L * F = ", neuron_count(), "; export the model again");
  }
  double scored = 0;
  for (const float weight : score_weights) scored += weight;
  if (scored > 0) sums.add(views, scored);
  return Done{};
}

Outcome Model::select(const SelectionSettings& settings) {
  refresh_.reset();
  refresh_figures_ = {};
  Result<std::vector<int64_t>> budgets = layer_budgets(settings, info_.layers, info_.d_ff);
  if (!budgets) return budgets.failure();
  if (*std::min_element(budgets->begin(), budgets->end()) == info_.d_ff) {
    use_all(neurons_, info_.layers, info_.d_ff);
    return Done{};
  }
  // At a dense start too, so that what cannot be chosen fails before the answer.
  Result<std::vector<int32_t>> chosen = choose(settings, prompt_);
  if (!chosen) return chosen.failure();
  neurons_ = std::move(*chosen);
  if (settings.dense_start > 0 || settings.refresh > 0) {
    refresh_.emplace(settings, prompt_, neurons_, info_.layers);
  }
  if (settings.dense_start > 0) use_all(neurons_, info_.layers, info_.d_ff);
  return Done{};
}

Result<std::vector<int32_t>> Model::choose(const SelectionSettings& settings,
                                           const LocalSums& sums) {
  if (Outcome valid = check_rule(settings); !valid) return valid.failure();
  Result<std::vector<int64_t>> budgets = layer_budgets(settings, info_.layers, info_.d_ff);
  if (!budgets) return budgets.failure();
  Result<Prior> prior = priors_.of(settings);
  if (!prior) return prior.failure();
  const int64_t most = *std::max_element(budgets->begin(), budgets->end());
  const Parallel parallel = Program::parallel();
  std::vector<int32_t> chosen(static_cast<size_t>(info_.layers * most));
  std::vector<uint32_t> scratch(select_neurons_scratch(info_.d_ff, parallel.threads));
  const Status status =
      select_neurons(sums.view(), *prior, settings.rule, info_.layers, info_.d_ff, all(chosen),
                     all(scratch), parallel, all(std::as_const(*budgets)));
  if (status != Status::kOk) return selection_failure(status);
  return chosen;
}

Result<Span<const float>> Model::decode(int64_t token) {
  if (Outcome fits = check_tokens("decode", {&token, 1}); !fits) return fits.failure();
  if (refresh_ && refresh_->due()) return decode_by_refresh(token);
  Result<Span<const float>> logits =
      program_.decode(token, length_, all(std::as_const(neurons_)), info_.layers);
  if (!logits) return logits.failure();
  ++length_;
  if (refresh_) refresh_->decoded(token);
  return check_logits(*logits);
}

Result<Span<const float>> Model::decode_by_refresh(int64_t token) {
  const Clock::time_point start = Clock::now();
  Refresh refresh = std::move(*refresh_);
  refresh_.reset();  // until it has succeeded
  std::vector<int64_t> tokens = refresh.tokens();
  length_ -= static_cast<int64_t>(tokens.size());
  tokens.push_back(token);
  const std::vector<float> weights(tokens.size(), 1.0f);
  Result<Span<const float>> logits =
      append(all(std::as_const(tokens)), all(weights), refresh.sums());
  if (!logits) return logits;
  Result<std::vector<int32_t>> chosen = choose(refresh.settings(), refresh.sums());
  if (!chosen) return chosen.failure();
  neurons_ = std::move(*chosen);
  refresh.chosen(neurons_);
  refresh_ = std::move(refresh);
  ++refresh_figures_.count;
  refresh_figures_.ms += milliseconds(start, Clock::now());
  return logits;
}

Result<Span<const float>> Model::check_logits(Span<const float> logits) const {
  if (logits.size == static_cast<size_t>(info_.vocab_size)) return logits;
  return failure("logits: got ", logits.size, ", expected one for each of the ", info_.vocab_size,
                 " tokens of the vocabulary; export the model again");
}

}  // namespace glass::run
