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
// Neurons whose gate and up rows are floats at a time, where weights are integers; the down rows of
// kNeuronBlock neurons take as much.
constexpr int64_t kHiddenBlock = 21;
constexpr int64_t kPackedSize = internal::kNeuronBlock * internal::kMaxTileColumns;

// Tokens of a block: all blocks about equal, at most kTokenBlock.
int64_t block_size(int64_t tokens) {
  const int64_t blocks = (tokens + kTokenBlock - 1) / kTokenBlock;
  return internal::ceil_to((tokens + blocks - 1) / blocks, kMaxLanes);
}

// The call's arguments and arrays; those of the threads lie side by side.
struct Dense {
  const FfnBundle& ffn;
  Activation activation;
  const Parallel& parallel;
  const internal::Kernels& kernels;
  float* panels;      // x of a block, packed
  float* hidden;      // [F,stride]
  float* weights;     // [stride]
  float* norms;       // [threads,kTokenBlock]
  float* packed;      // [threads,kPackedSize]
  float* sums;        // [threads,cost(kFewTokens * D)]
  float* floats;      // [threads,kNeuronBlock*D] weights as floats, where they are integers
  Scratch quantised;  // for few tokens, where weights are integers
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

internal::DequantiseTask dequantise_task(const Dense& dense, int64_t neuron, int64_t count) {
  internal::DequantiseTask task;
  task.format = dense.ffn.format;
  task.bundles = internal::integer_bundles(dense.ffn, neuron);
  task.count = count;
  task.d_model = dense.ffn.d_model;
  return task;
}

float* floats_of(const Dense& dense, int64_t thread) {
  return dense.floats + thread * internal::kNeuronBlock * dense.ffn.d_model;
}

// Gate and up rows as floats, [count,3,D] without the down rows.
const float* gate_up_floats(const Dense& dense, int64_t neuron, int64_t count, int64_t thread) {
  internal::DequantiseTask task = dequantise_task(dense, neuron, count);
  task.rows = 2;
  task.column_end = dense.ffn.d_model;
  task.weights = floats_of(dense, thread);
  task.neuron_stride = 3 * dense.ffn.d_model;
  internal::integer_kernels().dequantise(task);
  return task.weights;
}

// Columns of down rows as floats, [count,D].
const float* down_floats(const Dense& dense, int64_t neuron, int64_t count, Part columns,
                         int64_t thread) {
  internal::DequantiseTask task = dequantise_task(dense, neuron, count);
  task.first_row = 2;
  task.column_begin = columns.begin;
  task.column_end = columns.end;
  task.weights = floats_of(dense, thread);
  task.neuron_stride = dense.ffn.d_model;
  internal::integer_kernels().dequantise(task);
  return task.weights;
}

void compute_hidden(const Dense& dense, const Block& block, int64_t thread) {
  const Part part = part_of(dense.ffn.d_ff, dense.parallel.threads, thread);
  const bool is_float = internal::is_float(dense.ffn);
  const int64_t step = is_float ? part.end - part.begin : kHiddenBlock;
  for (int64_t neuron = part.begin; neuron < part.end; neuron += step) {
    internal::HiddenTask task;
    task.count = std::min(step, part.end - neuron);
    task.bundles = is_float ? internal::float_bundles(dense.ffn, neuron)
                            : gate_up_floats(dense, neuron, task.count, thread);
    task.d_model = dense.ffn.d_model;
    task.activation = dense.activation;
    task.panels = dense.panels;
    task.stride = block.stride;
    task.hidden = dense.hidden + neuron * block.stride;
    dense.kernels.hidden(task);
  }
}

void compute_columns(const Dense& dense, const Block& block, int64_t thread) {
  const int64_t width = dense.ffn.d_model, d_ff = dense.ffn.d_ff;
  const bool is_float = internal::is_float(dense.ffn);
  const int64_t unit = is_float ? kMaxLanes : kGroupSize;
  const Part part = part_of(width, dense.parallel.threads, thread, unit);
  const int64_t step = is_float ? d_ff : internal::kNeuronBlock;
  for (int64_t neuron = 0; neuron < d_ff; neuron += step) {
    internal::DownTask task;
    task.d_ff = std::min(step, d_ff - neuron);
    task.rows = is_float ? internal::float_bundles(dense.ffn) + 2 * width
                         : down_floats(dense, neuron, task.d_ff, part, thread);
    task.row_stride = is_float ? 3 * width : width;
    task.d_model = width;
    task.hidden = dense.hidden + neuron * block.stride;
    task.stride = block.stride;
    task.tokens = block.tokens;
    task.column_begin = part.begin;
    task.column_end = part.end;
    task.packed = dense.packed + thread * kPackedSize;
    task.y = block.y;
    task.accumulate = neuron > 0;
    dense.kernels.down(task);
  }
}

// Threads share the neurons for h, then the columns for y: no sum depends on their number.
void run_many_tokens(const Dense& dense, const Block& block) {
  const int64_t width = dense.ffn.d_model, threads = dense.parallel.threads;
  dense.kernels.pack({block.x, width, block.tokens, width, dense.panels});
  internal::parallel_for(dense.parallel, threads,
                         [&](int64_t i) { compute_hidden(dense, block, i); });
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) {
    compute_columns(dense, block, i);
    add_scores(dense, block, i);
  });
}

// One thread's task, of SparseFfnTask or IntegerFfnTask, but for weights and x.
template <class Task>
Task few_tokens_task(const Dense& dense, const Block& block, Part part, float* y) {
  Task task;
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
  Scratch memory = dense.quantised;
  internal::QuantisedTokens quantised;
  if (!is_float) quantised = internal::quantise(dense.ffn, block.x, block.tokens, memory);
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
  const int64_t shared = Scratch::cost(ffn.d_model * stride) + Scratch::cost(ffn.d_ff * stride) +
                         Scratch::cost(stride);
  const int64_t own = kTokenBlock + kPackedSize + Scratch::cost(kFewTokens * ffn.d_model);
  const int64_t integers = internal::is_float(ffn)
                               ? 0
                               : Scratch::cost(threads * internal::kNeuronBlock * ffn.d_model) +
                                     internal::quantised_cost(ffn, kFewTokens);
  return static_cast<size_t>(Scratch::kSlack + shared + threads * own + integers);
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
                    memory.take(ffn.d_model * block),
                    memory.take(ffn.d_ff * block),
                    memory.take(block),
                    memory.take(threads * kTokenBlock),
                    memory.take(threads * kPackedSize),
                    memory.take(threads * Scratch::cost(kFewTokens * ffn.d_model)),
                    internal::is_float(ffn)
                        ? nullptr
                        : memory.take(threads * internal::kNeuronBlock * ffn.d_model),
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
