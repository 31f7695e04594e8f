// An exported ExecuTorch program: prefill, choice of neurons, decode.
//
// Legend: L layers, F FFN width, K kept neurons, V vocabulary. One conversation at a time; not for
// use by several threads at once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "glass/base.h"
#include "glass/scoring.h"
#include "run/metadata.h"
#include "run/priors.h"
#include "run/program.h"
#include "run/refresh.h"
#include "run/selection.h"
#include "run/status.h"

namespace glass::run {

// Choices of neurons while answering, and their time: dense batches and choices.
struct RefreshFigures {
  int64_t count = 0;
  double ms = 0;
};

class Model {
 public:
  // Opens a .pte. `threads` of the runtime's thread pool, which all models of the process share;
  // 0 keeps its default. Fails when the file cannot be read, is not an export of glass-export, or
  // is of another version.
  static Result<std::unique_ptr<Model>> open(const std::string& path, int64_t threads);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelInfo& info() const { return info_; }

  // Tokens in the key/value cache.
  int64_t length() const { return length_; }

  // Forgets the conversation; the chosen neurons stay, without refreshes.
  void reset();

  // Appends tokens, computed densely, and adds their activations to the local statistics. Ends the
  // refreshes of the answer before them. score_weights: 1 for tokens that count in the local
  // scores, else 0; as many as tokens. Returns the logits [V] after the last token, valid until the
  // next call. Fails when there is no token, one is not in the vocabulary, or the context is too
  // short.
  Result<Span<const float>> prefill(Span<const int64_t> tokens, Span<const float> score_weights);

  // Chooses the neurons of the following decodes from the local statistics and the prior. Density 1
  // is the dense model, as it is before the first call.
  Outcome select(const SelectionSettings& settings);

  // Appends one token, computed with the chosen neurons, or with all by a refresh that is due.
  // Returns the logits [V] after it, valid until the next call. Fails when the context is full or
  // the token is not in the vocabulary. A refresh that fails leaves the context short of the tokens
  // that it was to compute again, and is the last one until the next choice.
  Result<Span<const float>> decode(int64_t token);

  // Since the last select.
  const RefreshFigures& refresh_figures() const { return refresh_figures_; }

 private:
  Model(Program program, ModelInfo info);
  Outcome check_tokens(const char* call, Span<const int64_t> tokens) const;
  Result<Span<const float>> append(Span<const int64_t> tokens, Span<const float> score_weights,
                                   LocalSums& sums);
  Outcome add_statistics(const PrefillViews& views, Span<const float> score_weights,
                         LocalSums& sums) const;
  Result<std::vector<int32_t>> choose(const SelectionSettings& settings, const LocalSums& sums);
  Result<Span<const float>> decode_by_refresh(int64_t token);
  Result<Span<const float>> check_logits(Span<const float> logits) const;
  size_t neuron_count() const { return static_cast<size_t>(info_.layers * info_.d_ff); }

  Program program_;
  ModelInfo info_;
  Priors priors_;
  int64_t length_ = 0;
  LocalSums prompt_;
  std::vector<int32_t> neurons_;  // [L,K] of the layer that keeps most; others are padded
  std::optional<Refresh> refresh_;
  RefreshFigures refresh_figures_;
};

}  // namespace glass::run
