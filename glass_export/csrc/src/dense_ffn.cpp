#include "ffn_check.h"
#include "glass/ffn.h"
#include "internal.h"

namespace glass {
namespace {

using internal::kMaxLanes;
using internal::kTokenBlock;
using internal::Part;
using internal::part_of;
using internal::Scratch;

// Up to so many tokens are served by reading the weights as sparse_ffn does: a matrix product
// would waste most of a vector of tokens.
constexpr int64_t kFewTokens = 4;
constexpr int64_t kPackedSize =
    internal::kNeuronBlock * std::max(internal::kMaxTileColumns, internal::kDownColumns);

// Tokens of a block: all blocks about equal, at most kTokenBlock.
int64_t block_size(int64_t tokens) {
  const int64_t blocks = (tokens + kTokenBlock - 1) / kTokenBlock;
  return internal::ceil_to((tokens + blocks - 1) / blocks, kMaxLanes);
}

// Floats of scratch for x [stride,D], packed.
int64_t panels_cost(const FfnBundle& ffn, int64_t stride) {
  return internal::is_float(ffn) ? Scratch::cost(ffn.d_model * stride) : 0;
}

// The call's arguments and arrays; those of the threads lie side by side.
struct Dense {
  const FfnBundle& ffn;
  Activation activation;
  const Parallel& parallel;
  const internal::Kernels& kernels;
  float* panels;      // x of a block, packed, where weights are floats
  float* hidden;      // [F,stride]
  float* weights;     // [stride]
  float* norms;       // [threads,kTokenBlock]
  float* packed;      // [threads,kPackedSize]
  float* sums;        // [threads,cost(kFewTokens * D)]
  Scratch quantised;  // for x of a block, where weights are integers
  Span<float> abs_sum;
  Span<float> sq_sum;
};

// One block of tokens.
struct Block {
  const float* x;
  const float* score_weights;
  float* y;
  int64_t tokens;
  int64_t stride;  // tokens, padded
};

void add_scores(const Dense& dense, const Block& block, int64_t thread) {
  const Part part = part_of(dense.ffn.d_ff, dense.parallel.threads, thread, internal::kLineFloats);
  internal::ScoreTask task;
  task.hidden = dense.hidden;
  task.d_ff = dense.ffn.d_ff;
  task.stride = block.stride;
  task.weights = dense.weights;
  task.neuron_begin = part.begin;
  task.neuron_end = part.end;
  task.inverse_norms = dense.norms + thread * kTokenBlock;
  task.abs_sum = dense.abs_sum.data;
  task.sq_sum = dense.sq_sum.data;
  dense.kernels.scores(task);
}

void compute_float_hidden(const Dense& dense, const Block& block, Part part) {
  internal::HiddenTask task;
  task.bundle_rows = bundle_rows(dense.ffn.gated);
  task.bias = internal::biases(dense.ffn, part.begin);
  task.bundles = internal::float_bundles(dense.ffn, part.begin);
  task.count = part.end - part.begin;
  task.d_model = dense.ffn.d_model;
  task.activation = dense.activation;
  task.panels = dense.panels;
  task.stride = block.stride;
  task.hidden = dense.hidden + part.begin * block.stride;
  dense.kernels.hidden(task);
}

void compute_integer_hidden(const Dense& dense, const Block& block,
                            const internal::QuantisedTokens& x, Part part) {
  internal::IntegerHiddenTask task;
  task.bundle_rows = bundle_rows(dense.ffn.gated);
  task.bias = internal::biases(dense.ffn, part.begin);
  task.format = dense.ffn.format;
  task.bundles = internal::integer_bundles(dense.ffn, part.begin);
  task.count = part.end - part.begin;
  task.d_model = dense.ffn.d_model;
  task.activation = dense.activation;
  task.x = x;
  task.tokens = block.tokens;
  task.stride = block.stride;
  task.hidden = dense.hidden + part.begin * block.stride;
  internal::integer_kernels().hidden(task);
}

// One thread's task, of DownTask or IntegerDownTask, but for weights.
template <class Task>
Task down_task(const Dense& dense, const Block& block, Part columns, int64_t thread) {
  Task task;
  task.bundle_rows = bundle_rows(dense.ffn.gated);
  task.d_ff = dense.ffn.d_ff;
  task.d_model = dense.ffn.d_model;
  task.hidden = dense.hidden;
  task.stride = block.stride;
  task.tokens = block.tokens;
  task.column_begin = columns.begin;
  task.column_end = columns.end;
  task.packed = dense.packed + thread * kPackedSize;
  task.y = block.y;
  return task;
}

void compute_columns(const Dense& dense, const Block& block, int64_t thread) {
  const int64_t width = dense.ffn.d_model, threads = dense.parallel.threads;
  if (internal::is_float(dense.ffn)) {
    const Part columns = part_of(width, threads, thread, kMaxLanes);
    auto task = down_task<internal::DownTask>(dense, block, columns, thread);
    task.bundles = internal::float_bundles(dense.ffn);
    return dense.kernels.down(task);
  }
  const Part columns = part_of(width, threads, thread, kGroupSize);
  auto task = down_task<internal::IntegerDownTask>(dense, block, columns, thread);
  task.format = dense.ffn.format;
  task.bundles = internal::integer_bundles(dense.ffn);
  internal::integer_kernels().down(task);
}

internal::QuantisedTokens quantise(const Dense& dense, const Block& block) {
  Scratch memory = dense.quantised;
  const internal::Tokens x{block.x, block.tokens, dense.ffn.d_model};
  return internal::quantise(dense.ffn.format, x, dense.parallel, memory);
}

// Threads share the neurons for h, then the columns for y: no sum depends on their number.
void run_many_tokens(const Dense& dense, const Block& block) {
  const int64_t width = dense.ffn.d_model, threads = dense.parallel.threads;
  const bool is_float = internal::is_float(dense.ffn);
  internal::QuantisedTokens quantised;
  if (is_float) {
    dense.kernels.pack({block.x, width, block.tokens, width, dense.panels});
  } else {
    quantised = quantise(dense, block);
  }
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) {
    const Part part = part_of(dense.ffn.d_ff, threads, i);
    if (is_float) return compute_float_hidden(dense, block, part);
    compute_integer_hidden(dense, block, quantised, part);
  });
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) {
    compute_columns(dense, block, i);
    add_scores(dense, block, i);
  });
}

// One thread's task, of SparseFfnTask or IntegerFfnTask, but for weights and x.
template <class Task>
Task few_tokens_task(const Dense& dense, const Block& block, Part part, float* y) {
  Task task;
  task.bundle_rows = bundle_rows(dense.ffn.gated);
  task.bias = internal::biases(dense.ffn, part.begin);
  task.count = part.end - part.begin;
  task.d_model = dense.ffn.d_model;
  task.activation = dense.activation;
  task.tokens = block.tokens;
  task.y = y;
  task.hidden = dense.hidden + part.begin * block.stride;
  task.hidden_stride = block.stride;
  return task;
}

void run_few_tokens(const Dense& dense, const Block& block) {
  const int64_t width = dense.ffn.d_model, size = block.tokens * width;
  const int64_t threads = dense.parallel.threads;
  const bool is_float = internal::is_float(dense.ffn);
  const auto sum_of = [&](int64_t i) {
    return i == 0 ? block.y : dense.sums + i * Scratch::cost(kFewTokens * width);
  };
  internal::QuantisedTokens quantised;
  if (!is_float) quantised = quantise(dense, block);
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) {
    const Part part = part_of(dense.ffn.d_ff, threads, i);
    std::fill_n(dense.hidden + part.begin * block.stride, (part.end - part.begin) * block.stride,
                0.0f);
    if (is_float) {
      auto task = few_tokens_task<internal::SparseFfnTask>(dense, block, part, sum_of(i));
      task.bundles = internal::float_bundles(dense.ffn, part.begin);
      task.x = block.x;
      return dense.kernels.sparse_ffn(task);
    }
    auto task = few_tokens_task<internal::IntegerFfnTask>(dense, block, part, sum_of(i));
    task.format = dense.ffn.format;
    task.bundles = internal::integer_bundles(dense.ffn, part.begin);
    task.x = quantised;
    internal::integer_kernels().sparse_ffn(task);
  });
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) { add_scores(dense, block, i); });
  for (int64_t i = 1; i < threads; ++i) dense.kernels.add(block.y, sum_of(i), size);
}

void run_block(const Dense& dense, const Block& block) {
  std::fill_n(dense.weights, block.stride, 0.0f);
  std::copy_n(block.score_weights, block.tokens, dense.weights);
  if (block.tokens <= kFewTokens) {
    run_few_tokens(dense, block);
  } else {
    run_many_tokens(dense, block);
  }
}

}  // namespace

size_t dense_ffn_scratch(const FfnBundle& ffn, int64_t tokens, int64_t threads) {
  const int64_t stride = block_size(tokens);
  const int64_t shared = panels_cost(ffn, stride) + Scratch::cost(ffn.d_ff * stride) +
                         Scratch::cost(stride) +
                         internal::quantised_cost(ffn.format, stride, ffn.d_model);
  const int64_t own = kTokenBlock + kPackedSize + Scratch::cost(kFewTokens * ffn.d_model);
  return static_cast<size_t>(Scratch::kSlack + shared + threads * own);
}

Status dense_ffn(const FfnBundle& ffn, Activation activation, Span<const float> x,
                 Span<const float> score_weights, Span<float> y, Span<float> abs_sum,
                 Span<float> sq_sum, Span<float> scratch, const Parallel& parallel) {
  using internal::has_size;
  if (!internal::is_valid(ffn) || !internal::is_valid(activation) ||
      !internal::is_valid(parallel) || !internal::are_tokens(ffn, x, y)) {
    return Status::kInvalidArgument;
  }
  const int64_t tokens = static_cast<int64_t>(x.size) / ffn.d_model, threads = parallel.threads;
  if (!has_size(score_weights, tokens) || !has_size(abs_sum, ffn.d_ff) ||
      !has_size(sq_sum, ffn.d_ff)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < dense_ffn_scratch(ffn, tokens, threads)) return Status::kScratchTooSmall;
  const internal::Kernels& kernels = internal::kernels();
  const int64_t block = block_size(tokens);
  Scratch memory(scratch);
  const Dense dense{ffn,
                    activation,
                    parallel,
                    kernels,
                    memory.take(panels_cost(ffn, block)),
                    memory.take(ffn.d_ff * block),
                    memory.take(block),
                    memory.take(threads * kTokenBlock),
                    memory.take(threads * kPackedSize),
                    memory.take(threads * Scratch::cost(kFewTokens * ffn.d_model)),
                    memory,
                    abs_sum,
                    sq_sum};
  std::fill_n(abs_sum.data, ffn.d_ff, 0.0f);
  std::fill_n(sq_sum.data, ffn.d_ff, 0.0f);
  for (int64_t t = 0; t < tokens; t += block) {
    const int64_t count = std::min(block, tokens - t);
    run_block(dense, {x.data + t * ffn.d_model, score_weights.data + t, y.data + t * ffn.d_model,
                      count, internal::ceil_to(count, kernels.lanes)});
  }
  return Status::kOk;
}

}  // namespace glass
