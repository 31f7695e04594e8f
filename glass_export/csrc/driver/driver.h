// The algorithm over one engine: prefill with prefix reuse, choice of neurons, decode. As
// glass_export/runtime/driver.py.
//
// Legend: L layers, F FFN width, K kept neurons, V vocabulary.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "driver/artifact.h"
#include "driver/backend.h"
#include "driver/cache.h"
#include "driver/local_sums.h"
#include "driver/priors.h"
#include "driver/refresh.h"
#include "driver/selection.h"
#include "driver/status.h"

namespace glass {

// Choices of neurons while answering, and their time: dense batches and choices.
struct RefreshFigures {
  int64_t count = 0;
  double ms = 0;
};

// Logits [V] after a prompt's last token, valid until the next call, and how many of its tokens
// were not computed but reused.
struct Prompted {
  Span<const float> logits;
  int64_t reused = 0;
};

// One conversation at a time. Not for use by several threads at once.
//
// The key/value cache is kept between calls: a prompt that begins like what the cache holds is
// computed only from where it differs. Tokens of an earlier answer keep the keys and values that
// the chosen neurons, or a refresh, gave them. A failed call leaves the cache at what it holds for
// certain.
class Driver {
 public:
  Driver(std::unique_ptr<Backend> backend, ModelInfo model, Priors priors);

  const ModelInfo& model() const { return model_; }

  // What the key/value cache holds.
  const std::vector<int64_t>& tokens() const { return cache_.tokens(); }

  // Forgets the conversation; the chosen neurons stay, without refreshes.
  void reset();

  // From now on, calls fail with kCancelled before the next engine call once *cancelled is true.
  // Null, as at first: never.
  void watch(const std::atomic<bool>* cancelled) { cancelled_ = cancelled; }

  // Computes a conversation's tokens densely, from where they differ from what the cache holds.
  // Ends the refreshes of the answer before it. score_weights: 1 for tokens that count in the local
  // scores, else 0; as many as tokens. Fails when there is no token, one is not in the vocabulary,
  // or the context is too short.
  Result<Prompted> prefill(Span<const int64_t> tokens, Span<const float> score_weights);

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
  using Note = std::function<void(Span<const int64_t>, Span<const float>, LocalSums)>;

  Outcome check_tokens(const char* call, Span<const int64_t> tokens, int64_t length) const;
  Result<Span<const float>> append(Span<const int64_t> tokens, Span<const float> score_weights,
                                   const Note& note);
  Result<LocalSums> sums_of(const PrefillViews& views, Span<const float> score_weights) const;
  Result<std::vector<int32_t>> choose(const SelectionSettings& settings, const LocalSums& sums);
  Outcome use_all();
  Result<Span<const float>> decode_by_refresh(int64_t token);
  Result<Span<const float>> check_logits(Span<const float> logits) const;
  Outcome check_cancelled() const;
  size_t neuron_count() const { return static_cast<size_t>(model_.rows() * model_.d_ff); }

  std::unique_ptr<Backend> backend_;
  ModelInfo model_;
  Priors priors_;
  TokenCache cache_;
  std::optional<Refresh> refresh_;
  RefreshFigures refresh_figures_;
  const std::atomic<bool>* cancelled_ = nullptr;
};

}  // namespace glass
