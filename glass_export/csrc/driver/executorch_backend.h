// The engine ExecuTorch: the methods of an exported .pte.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver/backend.h"

namespace executorch::extension::module {
class Module;
}

namespace glass {

// An opened .pte. Every call overwrites what the one before returned: the methods share memory.
class ExecutorchBackend final : public Backend {
 public:
  // Opens the artifact's program, checks it against the manifest and loads its methods. `threads`
  // of the runtime's pool, which all programs of the process share; 0 keeps its default.
  static Result<std::unique_ptr<Backend>> open(const Artifact& artifact, int64_t threads);

  ~ExecutorchBackend() override;

  Parallel parallel() override;
  void begin_prompt() override;
  Result<PrefillViews> prefill(Span<const int64_t> tokens, int64_t position,
                               Span<const float> score_weights) override;
  Outcome select(std::vector<int32_t> neurons) override;
  Result<Span<const float>> decode(int64_t token, int64_t position) override;

 private:
  using Module = executorch::extension::module::Module;

  ExecutorchBackend(std::string path, std::unique_ptr<Module> module, const ModelInfo& model);
  Outcome check(const Artifact& artifact);
  Result<std::string> metadata();

  std::string path_;
  std::unique_ptr<Module> module_;
  int64_t rows_;
  std::vector<int32_t> neurons_;  // [L,K]
};

}  // namespace glass
