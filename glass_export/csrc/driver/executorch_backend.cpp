#include "driver/executorch_backend.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>

#include <algorithm>
#include <map>
#include <utility>

#include "driver/metadata.h"
#include "driver/span.h"
#include "executorch/pool.h"
#include "executorch/runtime_log.h"
#include "packing/packed_bundles.h"

// The runtime's package ships this class without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace glass {
namespace {

using executorch::aten::ScalarType;
using executorch::extension::make_tensor_ptr;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using Size = executorch::aten::SizesType;

constexpr const char* kMethods[] = {"prefill", "decode", "get_metadata"};

const char* advice_for(Error error) {
  switch (error) {
    case Error::OperatorMissing:
      return "it uses an operator that this program has not got: export the model again with the "
             "glass-export that built this program";
    case Error::AccessFailed:
    case Error::NotFound:
      return "give an artifact directory of glass-export's target executorch";
    case Error::MemoryAllocationFailed:
      return "there is not enough memory";
    default:
      return "the file is damaged or of another ExecuTorch release: export the model again";
  }
}

Failure runtime_failure(const std::string& path, const char* what, Error error) {
  const std::string detail = take_runtime_errors();
  return failure(path, ": ", what, " failed: ", executorch::runtime::to_string(error),
                 detail.empty() ? "" : " (" + detail + ")", "; ", advice_for(error));
}

// A tensor over the caller's memory, which the runtime only reads.
template <class T>
TensorPtr view(std::vector<Size> sizes, Span<const T> values, ScalarType type) {
  return make_tensor_ptr(std::move(sizes), const_cast<T*>(values.data), type);
}

Outcome set_up_runtime(int64_t threads) {
  if (threads > 0) {
    auto* pool = executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr || !pool->_unsafe_reset_threadpool(static_cast<uint32_t>(threads))) {
      return failure("threads: got ", threads, ", which the runtime's thread pool refuses");
    }
  }
  executorch::runtime::BackendOptions<1> options;  // both methods share their packed weights
  if (options.set_option("weight_cache_enabled", true) != Error::Ok ||
      executorch::runtime::set_option("XnnpackBackend", options.view()) != Error::Ok) {
    return failure(
        "XNNPACK: its weight cache cannot be enabled; link this program with the "
        "XNNPACK backend of the ExecuTorch release that exported the model");
  }
  return Done{};
}

Outcome float_output(const EValue& value, const char* what, Span<const float>& out) {
  if (!value.isTensor() || value.toTensor().scalar_type() != ScalarType::Float) {
    return failure(what, ": the output is not a float32 tensor; export the model again");
  }
  const auto tensor = value.toTensor();
  out = {tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
  return Done{};
}

// Whether a tensor of a method is what the manifest says; a size of -1 is decided by calls.
bool matches(const executorch::runtime::Result<executorch::runtime::TensorInfo>& actual,
             const TensorSignature& expected) {
  static const std::map<std::string, ScalarType> kTypes = {
      {"float32", ScalarType::Float}, {"int64", ScalarType::Long}, {"int32", ScalarType::Int}};
  const auto type = kTypes.find(expected.dtype);
  if (!actual.ok() || type == kTypes.end() || actual->scalar_type() != type->second) return false;
  const auto sizes = actual->sizes();
  return std::equal(sizes.begin(), sizes.end(), expected.shape.begin(), expected.shape.end(),
                    [](int32_t size, int64_t wanted) { return wanted < 0 || size == wanted; });
}

Failure signature_failure(const std::string& path, const char* method, const std::string& name) {
  return failure(path, ": ", method, ": '", name, "' is not of the type and shape that glass.json ",
                 "says; the artifact is of two exports: copy or export it again");
}

// Inputs and outputs of a loaded method against those of the manifest.
Outcome check_signature(Module& module, const std::string& path, const char* method,
                        const Artifact& artifact) {
  const auto meta = module.method_meta(method);
  if (!meta.ok()) return runtime_failure(path, method, meta.error());
  const auto found = artifact.signatures.find(method);
  const GraphSignature expected =
      found == artifact.signatures.end() ? GraphSignature() : found->second;
  if (meta->num_inputs() != expected.inputs.size() ||
      meta->num_outputs() != expected.outputs.size()) {
    return failure(path, ": ", method, " has ", meta->num_inputs(), " inputs and ",
                   meta->num_outputs(), " outputs, glass.json says ", expected.inputs.size(),
                   " and ", expected.outputs.size(), kCopyAgain);
  }
  for (size_t i = 0; i < expected.inputs.size(); ++i) {
    if (!matches(meta->input_tensor_meta(i), expected.inputs[i])) {
      return signature_failure(path, method, expected.inputs[i].name);
    }
  }
  for (size_t i = 0; i < expected.outputs.size(); ++i) {
    if (!matches(meta->output_tensor_meta(i), expected.outputs[i])) {
      return signature_failure(path, method, expected.outputs[i].name);
    }
  }
  return Done{};
}

}  // namespace

ExecutorchBackend::ExecutorchBackend(std::string path, std::unique_ptr<Module> module,
                                     const ModelInfo& model)
    : path_(std::move(path)),
      module_(std::move(module)),
      rows_(model.rows()),
      neurons_(static_cast<size_t>(model.rows() * model.d_ff)) {
  for (size_t i = 0; i < neurons_.size(); ++i) {
    neurons_[i] = static_cast<int32_t>(static_cast<int64_t>(i) % model.d_ff);
  }
}

ExecutorchBackend::~ExecutorchBackend() = default;

Result<std::unique_ptr<Backend>> ExecutorchBackend::open(const Artifact& artifact,
                                                         int64_t threads) {
  capture_runtime_log();
  if (Outcome ready = set_up_runtime(threads); !ready) return ready.failure();
  const std::string path = artifact.file(artifact.graphs.at("prefill"));
  // Shared arenas: prefill and decode hold the key/value cache in the same buffers.
  auto module = std::make_unique<Module>(path, Module::LoadMode::Mmap, nullptr, nullptr, nullptr,
                                         /*share_memory_arenas=*/true);
  if (const Error error = module->load(); error != Error::Ok) {
    return runtime_failure(path, "opening it", error);
  }
  std::unique_ptr<ExecutorchBackend> backend(
      new ExecutorchBackend(path, std::move(module), artifact.model));
  if (Outcome sound = backend->check(artifact); !sound) return sound.failure();
  return std::unique_ptr<Backend>(std::move(backend));
}

// Also loads prefill and decode, so that their first call is no slower than the others.
Outcome ExecutorchBackend::check(const Artifact& artifact) {
  const auto names = module_->method_names();
  if (!names.ok()) return runtime_failure(path_, "reading its methods", names.error());
  for (const char* method : kMethods) {
    if (names->count(method) == 0) {
      return failure(path_, ": it has no method '", method, "', expected prefill, decode and ",
                     "get_metadata; make it with `glass-export --target executorch`");
    }
  }
  const Result<std::string> text = metadata();
  if (!text) return text.failure();
  if (Outcome sound = check_metadata(*text, artifact.model); !sound) {
    return failure(path_, ": ", sound.failure().message);
  }
  for (const char* method : {"prefill", "decode"}) {
    const Error error = module_->load_method(method);
    if (error != Error::Ok) return runtime_failure(path_, method, error);
    Outcome sound = check_signature(*module_, path_, method, artifact);
    if (!sound) return sound;
  }
  return Done{};
}

Parallel ExecutorchBackend::parallel() { return thread_pool(); }

// The copies of chosen neurons, beside all neurons of the prompt, would be the peak of memory.
void ExecutorchBackend::begin_prompt() { PackedLayers::of_process().clear(); }

Result<std::string> ExecutorchBackend::metadata() {
  auto value = module_->get("get_metadata");
  if (!value.ok()) return runtime_failure(path_, "get_metadata", value.error());
  if (!value->isString()) return failure(path_, ": get_metadata is not text; export it again");
  const auto text = value->toString();
  return std::string(text.data(), text.size());
}

Result<PrefillViews> ExecutorchBackend::prefill(Span<const int64_t> tokens, int64_t position,
                                                Span<const float> score_weights) {
  const auto count = static_cast<Size>(tokens.size);
  const int64_t last = count - 1;
  auto outputs = module_->execute("prefill", {view({1, count}, tokens, ScalarType::Long),
                                              view<int64_t>({1}, {&position, 1}, ScalarType::Long),
                                              view({count}, score_weights, ScalarType::Float),
                                              view<int64_t>({1}, {&last, 1}, ScalarType::Long)});
  if (!outputs.ok()) return runtime_failure(path_, "prefill", outputs.error());
  PrefillViews views;
  Span<const float>* const targets[] = {&views.logits, &views.abs_sum, &views.sq_sum};
  for (size_t i = 0; i < 3; ++i) {
    Outcome read = float_output(outputs->at(i), "prefill", *targets[i]);
    if (!read) return read.failure();
  }
  return views;
}

Outcome ExecutorchBackend::select(std::vector<int32_t> neurons) {
  neurons_ = std::move(neurons);
  return Done{};
}

Result<Span<const float>> ExecutorchBackend::decode(int64_t token, int64_t position) {
  const auto rows = static_cast<Size>(rows_);
  const auto kept = static_cast<Size>(neurons_.size() / static_cast<size_t>(rows_));
  const Span<const int32_t> neurons = all(std::as_const(neurons_));
  auto outputs = module_->execute("decode", {view<int64_t>({1, 1}, {&token, 1}, ScalarType::Long),
                                             view<int64_t>({1}, {&position, 1}, ScalarType::Long),
                                             view({rows, kept}, neurons, ScalarType::Int)});
  if (!outputs.ok()) return runtime_failure(path_, "decode", outputs.error());
  Span<const float> logits;
  if (Outcome read = float_output(outputs->at(0), "decode", logits); !read) return read.failure();
  return logits;
}

}  // namespace glass
