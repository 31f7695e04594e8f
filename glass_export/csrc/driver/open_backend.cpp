// The engines that this build has.
#include "driver/backend.h"
#ifdef GLASS_HAS_EXECUTORCH
#include "driver/executorch_backend.h"
#endif
#ifdef GLASS_HAS_ONNXRUNTIME
#include "driver/onnxruntime_backend.h"
#endif

namespace glass {

Result<std::unique_ptr<Backend>> open_backend(const Artifact& artifact, int64_t threads) {
  std::string known;
#ifdef GLASS_HAS_EXECUTORCH
  if (artifact.target == "executorch") return ExecutorchBackend::open(artifact, threads);
  known = "executorch";
#endif
#ifdef GLASS_HAS_ONNXRUNTIME
  if (artifact.target == "onnx") return OnnxRuntimeBackend::open(artifact, threads);
  known += known.empty() ? "onnx" : " and onnx";
#endif
  return failure(artifact.directory, ": of target '", artifact.target, "', this program runs ",
                 known, "; export it again with --target ", known.substr(0, known.find(' ')))
      .as(ArtifactCode::kUnsupported);
}

}  // namespace glass
