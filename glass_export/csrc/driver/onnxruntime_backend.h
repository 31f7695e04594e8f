// The engine ONNX Runtime: prefill.onnx and decode.onnx over one weights file. As
// glass_export/runtime/onnxruntime.
//
// Legend: L layers, F FFN width, G key/value heads, C context, E head width, V vocabulary.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/backend.h"
#include "driver/onnxruntime/decoder.h"
#include "driver/onnxruntime/graph.h"

namespace glass {

// The sessions of an artifact. The key/value cache is one buffer [1,G,C,E] for keys and one for
// values of each layer, written in place by both graphs; what no token has used costs no memory.
class OnnxRuntimeBackend final : public Backend {
 public:
  // Maps the weights and loads the graphs. `threads` of one operator; 0: all processors.
  static Result<std::unique_ptr<Backend>> open(const Artifact& artifact, int64_t threads);

  Parallel parallel() override;
  Result<PrefillViews> prefill(Span<const int64_t> tokens, int64_t position,
                               Span<const float> score_weights) override;
  Outcome select(std::vector<int32_t> neurons) override;
  Result<Span<const float>> decode(int64_t token, int64_t position) override;

 private:
  struct Cache {
    std::unique_ptr<float, decltype(&std::free)> values{nullptr, &std::free};
    OrtOwned<OrtValue> tensor;
  };

  explicit OnnxRuntimeBackend(const Artifact& artifact);
  Outcome load(int64_t threads);
  Outcome allocate_caches();
  Outcome describe_buffers();
  Outcome bind(OnnxGraph& graph);

  Artifact artifact_;
  std::vector<float> logits_, abs_sum_, sq_sum_;  // [V], [L,F], [L,F]
  int64_t position_ = 0, token_ = 0, last_ = 0;
  std::map<std::string, OrtOwned<OrtValue>> buffers_;  // the ones above, as inputs and outputs
  std::map<std::string, Cache> caches_;                // key.0, value.0, key.1 ...
  std::unique_ptr<OnnxLoader> loader_;                 // after what its sessions use
  std::unique_ptr<OnnxGraph> prefill_;
  std::unique_ptr<OnnxDecoder> decoder_;
};

}  // namespace glass
