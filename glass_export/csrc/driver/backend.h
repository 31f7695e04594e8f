// What the driver knows of an engine. As Backend in glass_export/runtime/base.py.
//
// Legend: T tokens of a call, L layers, F FFN width, K kept neurons, V vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "driver/artifact.h"
#include "driver/status.h"
#include "glass/base.h"

namespace glass {

// What a prefill call returns; views of the engine's memory, valid until the next call.
struct PrefillViews {
  Span<const float> logits;   // [V] of the last token
  Span<const float> abs_sum;  // [L,F]
  Span<const float> sq_sum;   // [L,F]
};

// An engine that has loaded a model, with one key/value cache. Calls come from one thread at a
// time. The driver has checked positions, tokens and neurons.
class Backend {
 public:
  virtual ~Backend() = default;

  // The engine's threads, for the choice of neurons.
  virtual Parallel parallel() = 0;

  // A prompt follows, and after it another choice of neurons: memory that only the present choice
  // needs may go.
  virtual void begin_prompt() {}

  // Computes T tokens with all neurons and writes their keys and values from `position` on; a
  // smaller position than before rewinds. score_weights [T]: 1 for tokens that the sums cover.
  virtual Result<PrefillViews> prefill(Span<const int64_t> tokens, int64_t position,
                                       Span<const float> score_weights) = 0;

  // Takes the neurons [L,K] of the following decodes. Rows are ascending and may end in
  // kNeuronPadding; K = F is the dense model, which is what decodes before the first call.
  virtual Outcome select(std::vector<int32_t> neurons) = 0;

  // Computes one token with those neurons. Returns the logits [V], valid until the next call.
  virtual Result<Span<const float>> decode(int64_t token, int64_t position) = 0;
};

// Opens the model of an artifact. Defined by the library of engines that the program is linked
// with; fails when it has none for the artifact's target. `threads` 0 lets the engine decide.
Result<std::unique_ptr<Backend>> open_backend(const Artifact& artifact, int64_t threads);

}  // namespace glass
