// The operators of a mixture of experts for ExecuTorch; schemas as in
// glass_export/ops/expert_kernels.py.
#include "glass/experts.h"

#include "executorch/ffn_adapter.h"

namespace glass::executorch_ops {
namespace {

struct Call {
  Experts experts;
  Routing routing;
  int64_t tokens = 0;
};

// x [S,D], index int64 and weight [S,k], bundles of all experts, one after the other [E F,..].
bool read_call(Context& context, const Tensor& x, const Tensor& index, const Tensor& weight,
               const Tensor& bundle, int64_t count, Call& call) {
  FfnBundle all;
  if (!bundle_of(context, x, bundle, all)) return false;
  call.tokens = x.numel() / all.d_model;
  const bool fits = index.scalar_type() == ScalarType::Long && index.dim() == 2 &&
                    index.size(0) == call.tokens && floats({&weight}) &&
                    weight.numel() == index.numel() && count > 0 && all.d_ff % count == 0;
  if (!require(context, fits,
               "experts: expected int64 index [S,k], float32 weight [S,k] and the bundles of as "
               "many experts as said")) {
    return false;
  }
  all.d_ff /= count;
  call.experts = {all, count};
  call.routing = {read<int64_t>(index), read<float>(weight)};
  return true;
}

void sparse_experts_out(Context& context, const Tensor& x, const Tensor& index,
                        const Tensor& weight, const Tensor& bundle, const Tensor& indices,
                        int64_t experts, int64_t first_row, int64_t activation, Tensor& out) {
  Call call;
  if (!read_call(context, x, index, weight, bundle, experts, call)) return;
  if (!resize(context, out, x.sizes())) return;
  const bool fits = indices.scalar_type() == ScalarType::Int && indices.dim() == 2 &&
                    first_row >= 0 && first_row + experts <= indices.size(0);
  if (!require(context, fits, "sparse_experts: expected int32 indices [L,K] with a row an expert"))
    return;
  const Parallel parallel = thread_pool();
  const auto kept = static_cast<size_t>(indices.size(1));
  const Span<const int32_t> neurons{
      indices.const_data_ptr<int32_t>() + static_cast<size_t>(first_row) * kept,
      static_cast<size_t>(experts) * kept};
  Span<float> memory;
  const size_t needed = sparse_experts_scratch(call.experts, call.tokens, parallel.threads);
  if (!scratch(context, needed, memory)) return;
  require(context, sparse_experts(call.experts, static_cast<Activation>(activation), read<float>(x),
                                  call.routing, neurons, write(out), memory, parallel));
}

void dense_experts_out(Context& context, const Tensor& x, const Tensor& index, const Tensor& weight,
                       const Tensor& bundle, const Tensor& score_weights, int64_t experts,
                       int64_t activation, const Tensor& out, const Tensor& abs_sum,
                       Tensor& sq_sum) {
  Call call;
  if (!read_call(context, x, index, weight, bundle, experts, call)) return;
  if (!resize(context, out, x.sizes())) return;
  const bool fits = floats({&score_weights}) && score_weights.numel() == call.tokens;
  if (!require(context, fits, "dense_experts: expected one float32 score weight a token")) return;
  const Parallel parallel = thread_pool();
  Span<float> memory;
  const size_t needed = dense_experts_scratch(call.experts, call.tokens, parallel.threads);
  if (!scratch(context, needed, memory)) return;
  require(context, dense_experts(call.experts, static_cast<Activation>(activation), read<float>(x),
                                 call.routing, read<float>(score_weights), write(out),
                                 write(abs_sum), write(sq_sum), memory, parallel));
}

EXECUTORCH_LIBRARY(glass, "sparse_experts.out", sparse_experts_out);
EXECUTORCH_LIBRARY(glass, "dense_experts.out", dense_experts_out);

}  // namespace
}  // namespace glass::executorch_ops
