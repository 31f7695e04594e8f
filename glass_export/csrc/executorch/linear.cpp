// Linear layers and embeddings of integer rows for ExecuTorch; schemas as in
// glass_export/ops/kernels.py.
#include "glass/linear.h"

#include <optional>

#include "executorch/adapter.h"

namespace glass::executorch_ops {
namespace {

constexpr int64_t kMaxRank = 8;

// Rows [N,bytes] of `depth` weights each.
bool rows_of(Context& context, const Tensor& weight, int64_t depth, LinearWeights& out) {
  const bool fits = weight.scalar_type() == ScalarType::Byte && weight.dim() == 2 &&
                    row_format(weight.size(1), depth, out.format);
  if (!require(context, fits, "linear: expected uint8 rows of a whole number of groups")) {
    return false;
  }
  out.data = weight.const_data_ptr();
  out.rows = weight.size(0);
  out.depth = depth;
  return true;
}

// Resize `out` to the shape of `first` with another last dimension, or one more.
bool resize_rows(Context& context, const Tensor& first, int64_t dims, int64_t last,
                 const Tensor& out) {
  if (!require(context, dims < kMaxRank, "linear: too many dimensions")) return false;
  Size sizes[kMaxRank];
  for (int64_t i = 0; i < dims; ++i) sizes[i] = first.size(i);
  sizes[dims] = static_cast<Size>(last);
  return resize(context, out, {sizes, static_cast<size_t>(dims + 1)});
}

void linear_out(Context& context, const Tensor& x, const Tensor& weight,
                const std::optional<Tensor>& bias, Tensor& out) {
  LinearWeights rows;
  Span<float> memory;
  if (!require(context, floats({&x}), "linear: expected float32 x [..,D]") ||
      !rows_of(context, weight, last_size(x), rows) ||
      !resize_rows(context, x, x.dim() - 1, rows.rows, out)) {
    return;
  }
  const bool fits = !bias.has_value() || (floats({&*bias}) && bias->numel() == rows.rows);
  if (!require(context, fits, "linear: expected a float32 bias for each row")) return;
  const Parallel parallel = thread_pool();
  const size_t needed = linear_scratch(rows, x.numel() / rows.depth, parallel.threads);
  if (!scratch(context, needed, memory)) return;
  const Span<const float> added = bias.has_value() ? read<float>(*bias) : Span<const float>();
  require(context, linear(rows, added, read<float>(x), write(out), memory, parallel));
}

void embedding_out(Context& context, const Tensor& weight, const Tensor& indices, int64_t width,
                   Tensor& out) {
  LinearWeights rows;
  const bool typed = indices.scalar_type() == ScalarType::Long && width > 0;
  if (!require(context, typed, "embedding: expected int64 indices and a width above 0") ||
      !rows_of(context, weight, width, rows) ||
      !resize_rows(context, indices, indices.dim(), width, out)) {
    return;
  }
  require(context, embedding(rows, read<int64_t>(indices), write(out)));
}

EXECUTORCH_LIBRARY(glass, "linear.out", linear_out);
EXECUTORCH_LIBRARY(glass, "embedding.out", embedding_out);

}  // namespace
}  // namespace glass::executorch_ops
