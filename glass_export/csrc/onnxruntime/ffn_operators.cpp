#include <cinttypes>

#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

bool bundle_of(Call& call, const Tensor& x, const Tensor& bundle, bool gated, FfnBundle& ffn) {
  const int64_t d_model = x.last_size(), rows = bundle_rows(gated);
  ffn = {bundle.data, bundle.sizes[0], d_model, BundleFormat::kFloat32, gated};
  if (bundle.type == kFloat && bundle.rank == 3 && bundle.sizes[1] == rows &&
      bundle.sizes[2] == d_model) {
    return true;
  }
  const bool bytes = bundle.type == kUint8 && bundle.rank == 2;
  return call.require(bytes && bundle_format(bundle.sizes[1], d_model, ffn.format, gated),
                      "bundle: got %s for x %s, expected float [F,%" PRId64 ",%" PRId64
                      "] or, if D is a "
                      "multiple of %" PRId64 ", uint8 [F,%" PRId64 "] (int8) or [F,%" PRId64
                      "] (int4)",
                      describe(bundle).c_str(), describe(x).c_str(), rows, d_model, kGroupSize,
                      bundle_bytes(BundleFormat::kInt8, d_model, gated),
                      bundle_bytes(BundleFormat::kInt4, d_model, gated));
}

namespace {

// The bias of a plain FFN, input 3, which a node may leave out.
bool read_bias(Call& call, FfnBundle& ffn) {
  Tensor bias;
  bool present = false;
  if (!call.optional_input(3, bias, present)) return false;
  if (!present) return true;
  ffn.bias = bias.values<float>().data;
  return call.require(bias.rank == 1 && bias.sizes[0] == ffn.d_ff,
                      "bias: got %s, expected float [%" PRId64 "]", describe(bias).c_str(),
                      ffn.d_ff);
}

// x [..,D] and the bundle, inputs 0 and 1, and the memory of y, output 0.
struct Layer {
  Tensor x;
  FfnBundle ffn;
  int64_t tokens = 0;
  Span<float> y;
};

bool read_layer(Call& call, bool gated, Layer& layer) {
  Tensor bundle;
  if (!call.input(0, layer.x) || !call.input(1, bundle)) return false;
  if (!call.require(layer.x.rank > 0 && layer.x.count() > 0,
                    "x: got %s, expected [..,S,D] with S and D above 0",
                    describe(layer.x).c_str())) {
    return false;
  }
  layer.tokens = layer.x.count() / layer.x.last_size();
  return bundle_of(call, layer.x, bundle, gated, layer.ffn) &&
         (gated || read_bias(call, layer.ffn)) &&
         call.output(0, layer.x.sizes, layer.x.rank, layer.y);
}

}  // namespace

template <bool kGated>
OrtStatus* SparseFfnOf<kGated>::init(const Attributes& attributes) {
  OrtStatus* status = attributes.integer("layer", layer_);
  return status != nullptr ? status : attributes.activation(activation_);
}

template <bool kGated>
void SparseFfnOf<kGated>::run(Call& call) const {
  Layer layer;
  Tensor indices;
  if (!read_layer(call, kGated, layer) || !call.input(2, indices)) return;
  const int64_t kept = indices.last_size();
  const bool fits = indices.rank == 2 && layer_ >= 0 && layer_ < indices.sizes[0] && kept >= 1 &&
                    kept <= layer.ffn.d_ff;
  if (!call.require(fits,
                    "indices: got %s for layer %" PRId64
                    ", expected int32 [L,K] with the layer from 0 to L-1 and 1 <= K <= %" PRId64,
                    describe(indices).c_str(), layer_, layer.ffn.d_ff)) {
    return;
  }
  const Parallel parallel = call.parallel();
  Span<float> memory;
  if (!call.scratch(sparse_ffn_scratch(layer.ffn, layer.tokens, parallel.threads), memory)) return;
  const Span<const int32_t> neurons{indices.values<int32_t>().data + layer_ * kept,
                                    static_cast<size_t>(kept)};
  const PackedChoice packed = packed_.choose(layer.ffn, neurons, parallel);
  call.require(sparse_ffn(packed.ffn, activation_, layer.x.values<float>(), packed.neurons, layer.y,
                          memory, parallel));
}

template <bool kGated>
void DenseFfnOf<kGated>::run(Call& call) const {
  Layer layer;
  Tensor score_weights;
  if (!read_layer(call, kGated, layer) || !call.input(2, score_weights)) return;
  if (!call.require(score_weights.count() == layer.tokens,
                    "score_weights: got %s for x %s, expected a number for each token",
                    describe(score_weights).c_str(), describe(layer.x).c_str())) {
    return;
  }
  const Parallel parallel = call.parallel();
  Span<float> abs_sum, sq_sum, memory;
  if (!call.output(1, &layer.ffn.d_ff, 1, abs_sum) || !call.output(2, &layer.ffn.d_ff, 1, sq_sum) ||
      !call.scratch(dense_ffn_scratch(layer.ffn, layer.tokens, parallel.threads), memory)) {
    return;
  }
  call.require(dense_ffn(layer.ffn, activation_, layer.x.values<float>(),
                         score_weights.values<float>(), layer.y, abs_sum, sq_sum, memory,
                         parallel));
}

template class SparseFfnOf<true>;
template class SparseFfnOf<false>;
template class DenseFfnOf<true>;
template class DenseFfnOf<false>;

}  // namespace glass::onnxruntime_ops
