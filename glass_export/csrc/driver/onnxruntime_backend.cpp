#include "driver/onnxruntime_backend.h"

#include <thread>
#include <utility>

#include "driver/span.h"

namespace glass {
namespace {

constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

size_t area(const ModelInfo& model) { return static_cast<size_t>(model.rows() * model.d_ff); }

}  // namespace

OnnxRuntimeBackend::OnnxRuntimeBackend(const Artifact& artifact)
    : artifact_(artifact),
      logits_(static_cast<size_t>(artifact.model.vocab_size)),
      abs_sum_(area(artifact.model)),
      sq_sum_(area(artifact.model)) {}

Result<std::unique_ptr<Backend>> OnnxRuntimeBackend::open(const Artifact& artifact,
                                                          int64_t threads) {
  std::unique_ptr<OnnxRuntimeBackend> backend(new OnnxRuntimeBackend(artifact));
  const unsigned processors = std::thread::hardware_concurrency();
  const int64_t usual = processors > 0 ? static_cast<int64_t>(processors) : 1;
  if (Outcome loaded = backend->load(threads > 0 ? threads : usual); !loaded) {
    return loaded.failure();
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

Outcome OnnxRuntimeBackend::load(int64_t threads) {
  auto loader = OnnxLoader::open(artifact_, threads);
  if (!loader) return loader.failure();
  loader_ = std::move(*loader);
  if (Outcome made = allocate_caches(); !made) return made;
  if (Outcome made = describe_buffers(); !made) return made;
  // An arena would hold the memory of the largest prompt for good.
  Result<OnnxGraph> prefill = loader_->load("prefill", /*arena=*/false);
  if (!prefill) return prefill.failure();
  prefill_ = std::make_unique<OnnxGraph>(std::move(*prefill));
  auto decoder = OnnxDecoder::open(artifact_, *loader_);
  if (!decoder) return decoder.failure();
  decoder_ = std::move(*decoder);
  if (Outcome bound = bind(*prefill_); !bound) return bound;
  if (Outcome bound = prefill_->input("logit_rows", *buffers_["logit_rows"]); !bound) return bound;
  for (const char* name : {"abs_sum", "sq_sum"}) {
    if (Outcome bound = prefill_->output(name, *buffers_[name]); !bound) return bound;
  }
  if (Outcome bound = decoder_->graph().input("input_ids", *buffers_["input_ids"]); !bound) {
    return bound;
  }
  return bind(decoder_->graph());
}

Outcome OnnxRuntimeBackend::allocate_caches() {
  const ModelInfo& model = artifact_.model;
  const std::vector<int64_t> shape = {1, model.kv_heads, model.max_length, model.head_dim};
  const auto count = static_cast<size_t>(model.kv_heads * model.max_length * model.head_dim);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    for (const char* kind : {"key.", "value."}) {
      Cache& cache = caches_[kind + std::to_string(layer)];
      cache.values.reset(static_cast<float*>(std::calloc(count, sizeof(float))));
      if (cache.values == nullptr) {
        return failure("the key/value cache: no memory for ", count * sizeof(float),
                       " bytes of layer ", layer)
            .as(ErrorCode::kOutOfMemory);
      }
      auto tensor = ort_tensor(cache.values.get(), count * sizeof(float), shape, kFloat);
      if (!tensor) return tensor.failure();
      cache.tensor = std::move(*tensor);
    }
  }
  return Done{};
}

Outcome OnnxRuntimeBackend::describe_buffers() {
  const ModelInfo& model = artifact_.model;
  const std::vector<int64_t> sums = {model.rows(), model.d_ff};
  std::pair<const char*, Result<OrtOwned<OrtValue>>> made[] = {
      {"logits", ort_tensor(all(logits_), {1, 1, model.vocab_size}, kFloat)},
      {"abs_sum", ort_tensor(all(abs_sum_), sums, kFloat)},
      {"sq_sum", ort_tensor(all(sq_sum_), sums, kFloat)},
      {"position", ort_tensor(&position_, sizeof position_, {1}, kInt64)},
      {"input_ids", ort_tensor(&token_, sizeof token_, {1, 1}, kInt64)},
      {"logit_rows", ort_tensor(&last_, sizeof last_, {1}, kInt64)},
  };
  for (auto& [name, tensor] : made) {
    if (!tensor) return tensor.failure();
    buffers_[name] = std::move(*tensor);
  }
  return Done{};
}

// What both graphs have: the position, the logits, and one buffer as past and as present.
Outcome OnnxRuntimeBackend::bind(OnnxGraph& graph) {
  if (Outcome bound = graph.input("position", *buffers_["position"]); !bound) return bound;
  if (Outcome bound = graph.output("logits", *buffers_["logits"]); !bound) return bound;
  for (const auto& [name, cache] : caches_) {
    if (Outcome bound = graph.input("past_" + name, *cache.tensor); !bound) return bound;
    if (Outcome bound = graph.output("present_" + name, *cache.tensor); !bound) return bound;
  }
  return Done{};
}

Parallel OnnxRuntimeBackend::parallel() { return serial(); }

Result<PrefillViews> OnnxRuntimeBackend::prefill(Span<const int64_t> tokens, int64_t position,
                                                 Span<const float> score_weights) {
  const auto count = static_cast<int64_t>(tokens.size);
  position_ = position;
  last_ = count - 1;
  const auto ids = ort_tensor(tokens, {1, count}, kInt64);
  const auto weights = ort_tensor(score_weights, {count}, kFloat);
  if (!ids || !weights) return (ids ? weights : ids).failure();
  if (Outcome bound = prefill_->input("input_ids", **ids); !bound) return bound.failure();
  if (Outcome bound = prefill_->input("score_weights", **weights); !bound) return bound.failure();
  if (Outcome ran = prefill_->run(); !ran) return ran.failure();
  return PrefillViews{all(std::as_const(logits_)), all(std::as_const(abs_sum_)),
                      all(std::as_const(sq_sum_))};
}

Outcome OnnxRuntimeBackend::select(std::vector<int32_t> neurons) {
  return decoder_->select(std::move(neurons));
}

Result<Span<const float>> OnnxRuntimeBackend::decode(int64_t token, int64_t position) {
  token_ = token;
  position_ = position;
  if (Outcome ran = decoder_->graph().run(); !ran) return ran.failure();
  return all(std::as_const(logits_));
}

}  // namespace glass
