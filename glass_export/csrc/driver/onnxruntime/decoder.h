// The decode graph, and the ways in which it learns the chosen neurons. As
// glass_export/runtime/onnxruntime/decoders.py.
//
// Legend: L layers, F FFN width, K kept neurons.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "driver/artifact.h"
#include "driver/onnxruntime/graph.h"

namespace glass {

// Decodes with the chosen neurons; all of them at first.
class OnnxDecoder {
 public:
  // The one for the form of the artifact's FFN weights. Fails when only Python runs that form.
  static Result<std::unique_ptr<OnnxDecoder>> open(const Artifact& artifact,
                                                   const OnnxLoader& loader);

  virtual ~OnnxDecoder() = default;

  // Takes the neurons [L,K] of the following runs, rows ascending with padding behind.
  virtual Outcome select(std::vector<int32_t> neurons) = 0;

  // What is not the neurons' is bound by the caller.
  OnnxGraph& graph() { return graph_; }

 protected:
  explicit OnnxDecoder(OnnxGraph graph) : graph_(std::move(graph)) {}

  OnnxGraph graph_;
};

}  // namespace glass
