// The feed-forward operators for ExecuTorch; schemas as in glass_export/ops/kernels.py.
#include <optional>

#include "executorch/ffn_adapter.h"
#include "packing/packed_bundles.h"

namespace glass::executorch_ops {

bool bundle_of(Context& context, const Tensor& x, const Tensor& bundle, FfnBundle& ffn) {
  bool fits = floats({&x});
  if (fits && bundle.scalar_type() == ScalarType::Byte) {
    fits = bundle.dim() == 2 && bundle_format(bundle.size(1), last_size(x), ffn.format, ffn.gated);
  } else {
    fits = fits && bundle.scalar_type() == ScalarType::Float && bundle.dim() == 3 &&
           bundle.size(1) == bundle_rows(ffn.gated) && bundle.size(2) == last_size(x);
  }
  if (!require(context, fits,
               "ffn: expected float32 x [..,D] and a bundle for D, [F,3,D] float32 ([F,2,D] of "
               "a plain FFN) or [F,bytes] uint8")) {
    return false;
  }
  ffn.data = bundle.const_data_ptr();
  ffn.d_ff = bundle.size(0);
  ffn.d_model = last_size(x);
  return true;
}

namespace {

using OptionalTensor = std::optional<Tensor>;

// bundle_of a plain FFN, with its bias [F].
bool plain_of(Context& context, const Tensor& x, const Tensor& bundle, const OptionalTensor& bias,
              FfnBundle& ffn) {
  ffn.gated = false;
  if (!bundle_of(context, x, bundle, ffn)) return false;
  if (!bias.has_value()) return true;
  const bool fits = floats({&*bias}) && bias->dim() == 1 && bias->size(0) == ffn.d_ff;
  if (!require(context, fits, "ffn: expected a float32 bias [F]")) return false;
  ffn.bias = bias->const_data_ptr<float>();
  return true;
}

void run_sparse(Context& context, const FfnBundle& ffn, const Tensor& x, const Tensor& indices,
                int64_t layer, int64_t activation, Tensor& out) {
  Span<float> memory;
  if (!resize(context, out, x.sizes())) return;
  const bool fits = indices.scalar_type() == ScalarType::Int && indices.dim() == 2 && layer >= 0 &&
                    layer < indices.size(0);
  if (!require(context, fits, "sparse_ffn: expected int32 indices [L,K] and a layer below L"))
    return;
  const Parallel parallel = thread_pool();
  const size_t kept = static_cast<size_t>(indices.size(1));
  const Span<const int32_t> neurons{indices.const_data_ptr<int32_t>() + layer * kept, kept};
  const int64_t tokens = x.numel() / ffn.d_model;
  if (!scratch(context, sparse_ffn_scratch(ffn, tokens, parallel.threads), memory)) return;
  const PackedChoice packed = PackedLayers::of_process().choose(ffn, neurons, parallel);
  require(context, sparse_ffn(packed.ffn, static_cast<Activation>(activation), read<float>(x),
                              packed.neurons, write(out), memory, parallel));
}

void run_dense(Context& context, const FfnBundle& ffn, const Tensor& x, const Tensor& score_weights,
               int64_t activation, const Tensor& out, const Tensor& abs_sum, const Tensor& sq_sum) {
  Span<float> memory;
  if (!resize(context, out, x.sizes())) return;
  const int64_t tokens = x.numel() / ffn.d_model;
  const bool fits = floats({&score_weights}) && score_weights.numel() == tokens;
  if (!require(context, fits, "dense_ffn: expected one float32 score weight a token")) return;
  const Parallel parallel = thread_pool();
  if (!scratch(context, dense_ffn_scratch(ffn, tokens, parallel.threads), memory)) return;
  require(context, dense_ffn(ffn, static_cast<Activation>(activation), read<float>(x),
                             read<float>(score_weights), write(out), write(abs_sum), write(sq_sum),
                             memory, parallel));
}

void sparse_ffn_out(Context& context, const Tensor& x, const Tensor& bundle, const Tensor& indices,
                    int64_t layer, int64_t activation, Tensor& out) {
  FfnBundle ffn;
  if (!bundle_of(context, x, bundle, ffn)) return;
  run_sparse(context, ffn, x, indices, layer, activation, out);
}

void plain_sparse_ffn_out(Context& context, const Tensor& x, const Tensor& bundle,
                          const OptionalTensor& bias, const Tensor& indices, int64_t layer,
                          int64_t activation, Tensor& out) {
  FfnBundle ffn;
  if (!plain_of(context, x, bundle, bias, ffn)) return;
  run_sparse(context, ffn, x, indices, layer, activation, out);
}

void dense_ffn_out(Context& context, const Tensor& x, const Tensor& bundle,
                   const Tensor& score_weights, int64_t activation, const Tensor& out,
                   const Tensor& abs_sum, Tensor& sq_sum) {
  FfnBundle ffn;
  if (!bundle_of(context, x, bundle, ffn)) return;
  run_dense(context, ffn, x, score_weights, activation, out, abs_sum, sq_sum);
}

void plain_dense_ffn_out(Context& context, const Tensor& x, const Tensor& bundle,
                         const OptionalTensor& bias, const Tensor& score_weights,
                         int64_t activation, const Tensor& out, const Tensor& abs_sum,
                         Tensor& sq_sum) {
  FfnBundle ffn;
  if (!plain_of(context, x, bundle, bias, ffn)) return;
  run_dense(context, ffn, x, score_weights, activation, out, abs_sum, sq_sum);
}

EXECUTORCH_LIBRARY(glass, "sparse_ffn.out", sparse_ffn_out);
EXECUTORCH_LIBRARY(glass, "dense_ffn.out", dense_ffn_out);
EXECUTORCH_LIBRARY(glass, "plain_sparse_ffn.out", plain_sparse_ffn_out);
EXECUTORCH_LIBRARY(glass, "plain_dense_ffn.out", plain_dense_ffn_out);

}  // namespace
}  // namespace glass::executorch_ops
