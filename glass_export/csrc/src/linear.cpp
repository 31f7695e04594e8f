#include "glass/linear.h"

#include "internal.h"
#include "quantised.h"

namespace glass {
namespace {

using internal::Part;
using internal::Scratch;

// Work that is worth another thread: bytes of weights times tokens.
constexpr int64_t kLeastWork = 32 * 1024;

bool is_valid(const LinearWeights& weights) {
  return weights.data != nullptr && weights.rows > 0 && weights.depth > 0 &&
         internal::is_integer(weights.format) && weights.depth % kGroupSize == 0;
}

const uint8_t* row_at(const LinearWeights& weights, int64_t row) {
  return static_cast<const uint8_t*>(weights.data) + row * row_bytes(weights.format, weights.depth);
}

}  // namespace

int64_t row_bytes(BundleFormat format, int64_t depth) {
  if (format == BundleFormat::kFloat32) return depth * int64_t{sizeof(float)};
  const int64_t integers = format == BundleFormat::kInt4 ? depth / 2 : depth;
  return integers + depth / kGroupSize * int64_t{sizeof(uint16_t)};
}

bool row_format(int64_t bytes, int64_t depth, BundleFormat& format) {
  for (const BundleFormat each : {BundleFormat::kInt8, BundleFormat::kInt4}) {
    format = each;
    if (depth > 0 && depth % kGroupSize == 0 && bytes == row_bytes(each, depth)) return true;
  }
  return false;
}

size_t linear_scratch(const LinearWeights& weights, int64_t tokens, int64_t) {
  return static_cast<size_t>(Scratch::kSlack +
                             internal::quantised_cost(weights.format, tokens, weights.depth));
}

Status linear(const LinearWeights& weights, Span<const float> bias, Span<const float> x,
              Span<float> y, Span<float> scratch, const Parallel& parallel) {
  using internal::has_size;
  if (!is_valid(weights) || !internal::is_valid(parallel) || x.size == 0) {
    return Status::kInvalidArgument;
  }
  const int64_t rows = weights.rows, depth = weights.depth;
  const int64_t tokens = static_cast<int64_t>(x.size) / depth;
  if (!has_size(x, tokens * depth) || !has_size(y, tokens * rows) ||
      (bias.size != 0 && !has_size(bias, rows))) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < linear_scratch(weights, tokens, parallel.threads)) {
    return Status::kScratchTooSmall;
  }
  Scratch memory(scratch);
  const internal::QuantisedTokens quantised =
      internal::quantise(weights.format, {x.data, tokens, depth}, parallel, memory);
  const int64_t work = rows * row_bytes(weights.format, depth) * tokens;
  const int64_t parts = std::min(parallel.threads, std::max<int64_t>(1, work / kLeastWork));
  internal::parallel_for(parallel, parts, [&](int64_t i) {
    const Part part = internal::part_of(rows, parts, i, internal::kLineFloats);
    internal::LinearTask task;
    task.format = weights.format;
    task.rows = row_at(weights, part.begin);
    task.count = part.end - part.begin;
    task.depth = depth;
    task.bias = bias.size == 0 ? nullptr : bias.data + part.begin;
    task.x = quantised;
    task.tokens = tokens;
    task.y = y.data + part.begin;
    task.y_stride = rows;
    internal::integer_kernels().linear(task);
  });
  return Status::kOk;
}

Status embedding(const LinearWeights& weights, Span<const int64_t> ids, Span<float> y) {
  const auto count = static_cast<int64_t>(ids.size);
  if (!is_valid(weights) || ids.data == nullptr || count == 0 ||
      !internal::has_size(y, count * weights.depth)) {
    return Status::kInvalidArgument;
  }
  for (const int64_t id : ids) {
    if (id < 0 || id >= weights.rows) return Status::kIndexOutOfRange;
  }
  internal::EmbeddingTask task;
  task.format = weights.format;
  task.rows = row_at(weights, 0);
  task.depth = weights.depth;
  task.ids = ids.data;
  task.count = count;
  task.y = y.data;
  internal::integer_kernels().embedding(task);
  return Status::kOk;
}

}  // namespace glass
