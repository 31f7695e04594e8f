#include <cinttypes>

#include "glass/linear.h"
#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

namespace {

// The weights' format follows from the size of a row.
bool weights_of(Call& call, const Tensor& x, const Tensor& weight, LinearWeights& weights) {
  const int64_t depth = x.last_size();
  weights = {weight.data, weight.sizes[0], depth, BundleFormat::kInt8};
  const bool rows = weight.rank == 2 && depth % kGroupSize == 0;
  for (const BundleFormat format : {BundleFormat::kInt8, BundleFormat::kInt4}) {
    weights.format = format;
    if (rows && weight.sizes[1] == row_bytes(format, depth)) return true;
  }
  return call.require(
      false,
      "weight: got %s for x %s, expected uint8 [N,%" PRId64 "] (int8) or [N,%" PRId64
      "] (int4), and x [..,D] with a multiple of %" PRId64 " as D",
      describe(weight).c_str(), describe(x).c_str(), row_bytes(BundleFormat::kInt8, depth),
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
  if (!call.require(x.rank > 0 && x.count() > 0,
                    "x: got %s, expected [..,S,D] with S and D above 0", describe(x).c_str())) {
    return;
  }
  LinearWeights weights;
  Span<const float> bias;
  if (!weights_of(call, x, weight, weights) || !read_bias(call, weights.rows, bias)) return;
  const Parallel parallel = call.parallel();
  Tensor shape = x;
  shape.sizes[x.rank - 1] = weights.rows;
  Span<float> y, memory;
  const size_t floats = linear_scratch(weights, x.count() / weights.depth, parallel.threads);
  if (!call.output(0, shape.sizes, shape.rank, y) || !call.scratch(floats, memory)) return;
  call.require(linear(weights, bias, x.values<float>(), y, memory, parallel));
}

}  // namespace glass::onnxruntime_ops
