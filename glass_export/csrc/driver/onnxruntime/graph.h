// Graphs of an artifact as sessions of ONNX Runtime, over weights that are mapped once.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/artifact.h"
#include "driver/mapped_file.h"
#include "driver/onnxruntime/runtime.h"

namespace glass {

// A loaded graph with its inputs and outputs bound to memory of the caller.
class OnnxGraph {
 public:
  OnnxGraph(std::string path, OrtOwned<OrtSession> session, OrtOwned<OrtIoBinding> binding)
      : path_(std::move(path)), session_(std::move(session)), binding_(std::move(binding)) {}

  const std::string& path() const { return path_; }
  const OrtSession& session() const { return *session_; }

  // What is bound stays until another tensor is.
  Outcome input(const std::string& name, const OrtValue& tensor);
  Outcome output(const std::string& name, const OrtValue& tensor);

  // Lets go of all that is bound.
  void unbind();

  // Computes the bound outputs from the bound inputs.
  Outcome run();

 private:
  std::string path_;
  OrtOwned<OrtSession> session_;
  OrtOwned<OrtIoBinding> binding_;
};

// Loads the graphs of one artifact. It must outlive them: they read its weights in place.
class OnnxLoader {
 public:
  // Maps the weights. `threads` of one operator, at least 1.
  static Result<std::unique_ptr<OnnxLoader>> open(const Artifact& artifact, int64_t threads);

  // The graph with `role`, checked against its signature in the manifest. `arena`: keep the memory
  // of activations between runs; an arena holds that of the largest prompt for good.
  Result<OnnxGraph> load(const std::string& role, bool arena) const;

  // Every tensor of the weights file by name, in the mapping.
  const std::map<std::string, OrtOwned<OrtValue>>& weights() const { return weights_; }

 private:
  explicit OnnxLoader(const Artifact& artifact, int64_t threads)
      : artifact_(artifact), threads_(threads) {}
  Outcome map_weights();
  Outcome set_options(OrtSessionOptions& options, bool arena) const;
  Outcome check(const OnnxGraph& graph, const std::string& role) const;

  const Artifact& artifact_;
  int64_t threads_;
  MappedFile file_;
  std::map<std::string, OrtOwned<OrtValue>> weights_;
  OrtOwned<OrtEnv> environment_;
};

}  // namespace glass
