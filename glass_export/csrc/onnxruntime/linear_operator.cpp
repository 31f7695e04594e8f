#include <cinttypes>

#include "glass/linear.h"
#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

namespace {

// The weights' format follows from the size of a row.
bool weights_of(Call& call, const Tensor& weight, int64_t depth, LinearWeights& weights) {
  weights = {weight.data, weight.sizes[0], depth, BundleFormat::kInt8};
  return call.require(weight.rank == 2 && row_format(weight.sizes[1], depth, weights.format),
                      "weight: got %s for rows of D = %" PRId64 ", expected uint8 [N,%" PRId64
                      "] (int8) or [N,%" PRId64 "] (int4), and a multiple of %" PRId64 " as D",
                      describe(weight).c_str(), depth, row_bytes(BundleFormat::kInt8, depth),
                      row_bytes(BundleFormat::kInt4, depth), kGroupSize);
}

bool read_bias(Call& call, int64_t rows, Span<const float>& bias) {
  Tensor tensor;
  bool present = false;
  if (!call.optional_input(2, tensor, present)) return false;
  if (!present) return true;
  bias = tensor.values<float>();
  return call.require(tensor.rank == 1 && tensor.sizes[0] == rows,
                      "bias: got %s, expected float [%" PRId64 "]", describe(tensor).c_str(), rows);
}

}  // namespace

void Linear::run(Call& call) const {
  Tensor x, weight;
  if (!call.input(0, x) || !call.input(1, weight)) return;
  if (!call.require(x.last_size() > 0, "x: got %s, expected [..,S,D] with D above 0",
                    describe(x).c_str())) {
    return;
  }
  LinearWeights weights;
  Span<const float> bias;
  if (!weights_of(call, weight, x.last_size(), weights) || !read_bias(call, weights.rows, bias))
    return;
  const Parallel parallel = call.parallel();
  Tensor shape = x;
  shape.sizes[x.rank - 1] = weights.rows;
  Span<float> y, memory;
  const size_t floats = linear_scratch(weights, x.count() / weights.depth, parallel.threads);
  if (!call.output(0, shape.sizes, shape.rank, y)) return;
  if (y.size == 0) return;  // the head, when no token's logits are wanted
  if (!call.scratch(floats, memory)) return;
  call.require(linear(weights, bias, x.values<float>(), y, memory, parallel));
}

void Embedding::run(Call& call) const {
  Tensor weight, indices;
  if (!call.input(0, weight) || !call.input(1, indices)) return;
  if (!call.require(width_ > 0, "width: got %" PRId64 ", expected the number of weights of a row",
                    width_) ||
      !call.require(indices.rank < Tensor::kMaxRank, "indices: got %s, too many dimensions",
                    describe(indices).c_str())) {
    return;
  }
  LinearWeights weights;
  Span<float> y;
  if (!weights_of(call, weight, width_, weights)) return;
  Tensor shape = indices;
  shape.sizes[shape.rank++] = width_;
  if (!call.output(0, shape.sizes, shape.rank, y)) return;
  call.require(embedding(weights, indices.values<int64_t>(), y));
}

}  // namespace glass::onnxruntime_ops
