#include "run/model.h"

#include <algorithm>
#include <utility>

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

Failure selection_failure(Status status) {
  switch (status) {
    case Status::kNoScoredToken:
      return failure("local scores: no prompt token was scored, expected at least one; score more ",
                     "tokens, or use the global fusion");
    case Status::kNotFinite:
      return failure("scores: NaN or infinity, expected finite numbers; the prior or the model's ",
                     "weights are damaged: export the model again");
    default:
      return failure("selection: ", status_message(status));
  }
}

}  // namespace

Model::Model(Program program, ModelInfo info)
    : program_(std::move(program)), info_(std::move(info)) {
  reset();
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
  if (Outcome loaded = model->load_priors(); !loaded) return loaded.failure();
  return model;
}

Outcome Model::load_priors() {
  for (size_t i = 0; i < priors_.size(); ++i) {
    const std::string method = std::string("get_prior_") + kStatisticNames[i];
    Result<std::vector<float>> values = program_.constant(method);
    if (!values) return values.failure();
    if (!values->empty() && values->size() != neuron_count()) {
      return failure(method, ": got ", values->size(), " values, expected L * F = ", neuron_count(),
                     "; export the model again");
    }
    priors_[i] = std::move(*values);
  }
  return Done{};
}

void Model::reset() {
  length_ = 0;
  abs_sum_.assign(neuron_count(), 0);
  sq_sum_.assign(neuron_count(), 0);
  scored_tokens_ = 0;
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
  Span<const float> logits;
  const auto chunk = static_cast<size_t>(info_.prefill_chunk);
  for (size_t start = 0; start < tokens.size; start += chunk) {
    const Span<const int64_t> ids = part(tokens, start, chunk);
    const Span<const float> weights = part(score_weights, start, chunk);
    Result<PrefillViews> views = program_.prefill(ids, length_, weights);
    if (!views) return views.failure();
    if (Outcome added = add_statistics(*views, weights); !added) return added.failure();
    length_ += static_cast<int64_t>(ids.size);
    logits = views->logits;
  }
  return check_logits(logits);
}

Outcome Model::add_statistics(const PrefillViews& views, Span<const float> score_weights) {
  if (views.abs_sum.size != neuron_count() || views.sq_sum.size != neuron_count()) {
    return failure("prefill: got statistics of ", views.abs_sum.size,
                   " neurons, expected L * F = ", neuron_count(), "; export the model again");
  }
  double scored = 0;
  for (const float weight : score_weights) scored += weight;
  if (scored == 0) return Done{};
  for (size_t i = 0; i < neuron_count(); ++i) {
    abs_sum_[i] += views.abs_sum[i];
    sq_sum_[i] += views.sq_sum[i];
  }
  scored_tokens_ += scored;
  return Done{};
}

// The ranks of a prior never change.
Status Model::rank_prior(size_t which) {
  if (priors_[which].empty() || !ranks_[which].empty()) return Status::kOk;
  std::vector<int32_t> ranks(neuron_count());
  std::vector<uint32_t> scratch(select_neurons_scratch(info_.d_ff));
  const Status status = prior_ranks(all(std::as_const(priors_[which])), info_.layers, info_.d_ff,
                                    all(ranks), all(scratch));
  if (status == Status::kOk) ranks_[which] = std::move(ranks);
  return status;
}

Outcome Model::select(const SelectionSettings& settings) {
  const int64_t kept = kept_neurons(settings.density, info_.d_ff);
  if (kept == info_.d_ff) {
    use_all(neurons_, info_.layers, info_.d_ff);
    return Done{};
  }
  if (Outcome scales = check_scales(settings); !scales) return scales.failure();
  const auto which = static_cast<size_t>(settings.prior);
  const std::vector<float>& prior = priors_[which];
  if (settings.rule.fusion != Fusion::kLocal && prior.empty()) {
    return failure("prior: '", kStatisticNames[which], "' is not in the artifact; choose another ",
                   "one, or the local fusion");
  }
  if (const Status ranked = rank_prior(which); ranked != Status::kOk) {
    return selection_failure(ranked);
  }
  const Parallel parallel = Program::parallel();
  std::vector<int32_t> chosen(static_cast<size_t>(info_.layers * kept));
  std::vector<uint32_t> scratch(select_neurons_scratch(info_.d_ff, parallel.threads));
  const TokenSums sums{all(std::as_const(abs_sum_)), all(std::as_const(sq_sum_)), scored_tokens_};
  const Status status =
      select_neurons(sums, {all(prior), all(std::as_const(ranks_[which]))}, settings.rule,
                     info_.layers, info_.d_ff, all(chosen), all(scratch), parallel);
  if (status != Status::kOk) return selection_failure(status);
  neurons_ = std::move(chosen);
  return Done{};
}

Result<Span<const float>> Model::decode(int64_t token) {
  if (Outcome fits = check_tokens("decode", {&token, 1}); !fits) return fits.failure();
  Result<Span<const float>> logits =
      program_.decode(token, length_, all(std::as_const(neurons_)), info_.layers);
  if (!logits) return logits.failure();
  ++length_;
  return check_logits(*logits);
}

Result<Span<const float>> Model::check_logits(Span<const float> logits) const {
  if (logits.size == static_cast<size_t>(info_.vocab_size)) return logits;
  return failure("logits: got ", logits.size, ", expected one for each of the ", info_.vocab_size,
                 " tokens of the vocabulary; export the model again");
}

}  // namespace glass::run
