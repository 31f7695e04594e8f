#include <cinttypes>

#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

namespace {

// Inputs 0 to 3 of both operators, and the memory of y.
struct Inputs {
  Tensor x;
  Experts experts;
  Routing routing;
  int64_t tokens = 0;
  Span<float> y;
};

bool read_inputs(Call& call, int64_t count, Inputs& inputs) {
  Tensor index, weight, bundle;
  if (!call.input(0, inputs.x) || !call.input(1, index) || !call.input(2, weight) ||
      !call.input(3, bundle)) {
    return false;
  }
  const Tensor& x = inputs.x;
  if (!call.require(x.rank == 2 && x.count() > 0, "x: got %s, expected [S,D] with both above 0",
                    describe(x).c_str())) {
    return false;
  }
  inputs.tokens = x.sizes[0];
  const bool routed = index.rank == 2 && index.sizes[0] == inputs.tokens && weight.rank == 2 &&
                      weight.sizes[0] == inputs.tokens && weight.sizes[1] == index.sizes[1];
  if (!call.require(routed, "index and weight: got %s and %s for x %s, expected [S,k] both",
                    describe(index).c_str(), describe(weight).c_str(), describe(x).c_str())) {
    return false;
  }
  inputs.routing = {index.values<int64_t>(), weight.values<float>()};
  FfnBundle all;
  if (!bundle_of(call, x, bundle, true, all)) return false;
  if (!call.require(count > 0 && all.d_ff % count == 0,
                    "bundle: got %s, expected the neurons of %" PRId64 " experts of one width",
                    describe(bundle).c_str(), count)) {
    return false;
  }
  all.d_ff /= count;
  inputs.experts = {all, count};
  return call.output(0, x.sizes, x.rank, inputs.y);
}

}  // namespace

OrtStatus* SparseExperts::init(const Attributes& attributes) {
  OrtStatus* status = attributes.integer("experts", experts_);
  if (status == nullptr) status = attributes.integer("first_row", first_row_);
  return status != nullptr ? status : attributes.activation(activation_);
}

void SparseExperts::run(Call& call) const {
  Inputs inputs;
  Tensor indices;
  if (!read_inputs(call, experts_, inputs) || !call.input(4, indices)) return;
  const int64_t kept = indices.last_size();
  const bool fits = indices.rank == 2 && first_row_ >= 0 &&
                    first_row_ + experts_ <= indices.sizes[0] && kept >= 1 &&
                    kept <= inputs.experts.first.d_ff;
  if (!call.require(fits,
                    "indices: got %s, expected int32 [L,K] with rows %" PRId64 " to %" PRId64
                    " and 1 <= K <= %" PRId64,
                    describe(indices).c_str(), first_row_, first_row_ + experts_ - 1,
                    inputs.experts.first.d_ff)) {
    return;
  }
  const Parallel parallel = call.parallel();
  Span<float> memory;
  const size_t needed = sparse_experts_scratch(inputs.experts, inputs.tokens, parallel.threads);
  if (!call.scratch(needed, memory)) return;
  const Span<const int32_t> neurons{indices.values<int32_t>().data + first_row_ * kept,
                                    static_cast<size_t>(experts_ * kept)};
  call.require(sparse_experts(inputs.experts, activation_, inputs.x.values<float>(), inputs.routing,
                              neurons, inputs.y, memory, parallel));
}

OrtStatus* DenseExperts::init(const Attributes& attributes) {
  OrtStatus* status = attributes.integer("experts", experts_);
  return status != nullptr ? status : attributes.activation(activation_);
}

void DenseExperts::run(Call& call) const {
  Inputs inputs;
  Tensor score_weights;
  if (!read_inputs(call, experts_, inputs) || !call.input(4, score_weights)) return;
  if (!call.require(score_weights.count() == inputs.tokens,
                    "score_weights: got %s for x %s, expected a number for each token",
                    describe(score_weights).c_str(), describe(inputs.x).c_str())) {
    return;
  }
  const Parallel parallel = call.parallel();
  const int64_t shape[] = {experts_, inputs.experts.first.d_ff};
  const size_t needed = dense_experts_scratch(inputs.experts, inputs.tokens, parallel.threads);
  Span<float> abs_sum, sq_sum, memory;
  if (!call.output(1, shape, 2, abs_sum) || !call.output(2, shape, 2, sq_sum) ||
      !call.scratch(needed, memory)) {
    return;
  }
  call.require(dense_experts(inputs.experts, activation_, inputs.x.values<float>(), inputs.routing,
                             score_weights.values<float>(), inputs.y, abs_sum, sq_sum, memory,
                             parallel));
}

}  // namespace glass::onnxruntime_ops
