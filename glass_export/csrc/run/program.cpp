#include "run/program.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>

#include <utility>

#include "executorch/pool.h"
#include "executorch/runtime_log.h"

// The runtime's package ships this class without its header.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace glass::run {
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

}  // namespace

Program::Program(std::string path, std::unique_ptr<Module> module)
    : path_(std::move(path)), module_(std::move(module)) {}
Program::Program(Program&&) noexcept = default;
Program::~Program() = default;

Result<Program> Program::open(const std::string& path, int64_t threads) {
  capture_runtime_log();
  if (Outcome ready = set_up_runtime(threads); !ready) return ready.failure();
  // Shared arenas: prefill and decode hold the key/value cache in the same buffers.
  auto module = std::make_unique<Module>(path, Module::LoadMode::Mmap, nullptr, nullptr, nullptr,
                                         /*share_memory_arenas=*/true);
  if (const Error error = module->load(); error != Error::Ok) {
    return runtime_failure(path, "opening it", error);
  }
  auto names = module->method_names();
  if (!names.ok()) return runtime_failure(path, "reading its methods", names.error());
  for (const char* method : kMethods) {
    if (names->count(method) == 0) {
      return failure(path, ": it has no method '", method, "', expected prefill, decode and ",
                     "get_metadata; make it with `glass-export --target executorch`");
    }
  }
  return Program(path, std::move(module));
}

Parallel Program::parallel() { return thread_pool(); }

Outcome Program::load() {
  for (const char* method : {"prefill", "decode"}) {
    const Error error = module_->load_method(method);
    if (error != Error::Ok) return runtime_failure(path_, method, error);
  }
  const auto prefill = module_->method_meta("prefill");
  const auto decode = module_->method_meta("decode");
  if (!prefill.ok() || !decode.ok() || prefill->num_inputs() != 4 || prefill->num_outputs() != 3 ||
      decode->num_inputs() != 3 || decode->num_outputs() != 1) {
    return failure(path_, ": its methods have other inputs or outputs than expected, 4 and 3 of ",
                   "prefill, 3 and 1 of decode; export the model again");
  }
  return Done{};
}

Result<std::string> Program::metadata() {
  auto value = module_->get("get_metadata");
  if (!value.ok()) return runtime_failure(path_, "get_metadata", value.error());
  if (!value->isString()) return failure(path_, ": get_metadata is not text; export it again");
  const auto text = value->toString();
  return std::string(text.data(), text.size());
}

Result<std::vector<float>> Program::constant(const std::string& method) {
  const auto names = module_->method_names();
  if (!names.ok() || names->count(method) == 0) return std::vector<float>();
  auto value = module_->get(method);
  if (!value.ok()) return runtime_failure(path_, method.c_str(), value.error());
  Span<const float> values;
  if (Outcome read = float_output(*value, method.c_str(), values); !read) return read.failure();
  return std::vector<float>(values.begin(), values.end());
}

Result<PrefillViews> Program::prefill(Span<const int64_t> tokens, int64_t position,
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

Result<Span<const float>> Program::decode(int64_t token, int64_t position,
                                          Span<const int32_t> neurons, int64_t layers) {
  const auto rows = static_cast<Size>(layers);
  const auto kept = static_cast<Size>(neurons.size / static_cast<size_t>(layers));
  auto outputs = module_->execute("decode", {view<int64_t>({1, 1}, {&token, 1}, ScalarType::Long),
                                             view<int64_t>({1}, {&position, 1}, ScalarType::Long),
                                             view({rows, kept}, neurons, ScalarType::Int)});
  if (!outputs.ok()) return runtime_failure(path_, "decode", outputs.error());
  Span<const float> logits;
  if (Outcome read = float_output(outputs->at(0), "decode", logits); !read) return read.failure();
  return logits;
}

}  // namespace glass::run
