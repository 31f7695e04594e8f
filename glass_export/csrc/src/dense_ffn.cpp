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
  float* panels;   // x of a block, packed
  float* hidden;   // [F,stride]
  float* weights;  // [stride]
  float* norms;    // [threads,kTokenBlock]
  float* packed;   // [threads,kPackedSize]
  float* sums;     // [threads,cost(kFewTokens * D)]
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

void compute_hidden(const Dense& dense, const Block& block, int64_t thread) {
  const Part part = part_of(dense.ffn.d_ff, dense.parallel.threads, thread);
  internal::HiddenTask task;
  task.bundles = dense.ffn.data + part.begin * 3 * dense.ffn.d_model;
  task.count = part.end - part.begin;
  task.d_model = dense.ffn.d_model;
  task.activation = dense.activation;
  task.panels = dense.panels;
  task.stride = block.stride;
  task.hidden = dense.hidden + part.begin * block.stride;
  dense.kernels.hidden(task);
}

void compute_columns(const Dense& dense, const Block& block, int64_t thread) {
  const int64_t width = dense.ffn.d_model;
  const Part part = part_of(width, dense.parallel.threads, thread, kMaxLanes);
  internal::DownTask task;
  task.bundles = dense.ffn.data;
  task.d_ff = dense.ffn.d_ff;
  task.d_model = width;
  task.hidden = dense.hidden;
  task.stride = block.stride;
  task.tokens = block.tokens;
  task.column_begin = part.begin;
  task.column_end = part.end;
  task.packed = dense.packed + thread * kPackedSize;
  task.y = block.y;
  dense.kernels.down(task);
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

void run_few_tokens(const Dense& dense, const Block& block) {
  const int64_t width = dense.ffn.d_model, size = block.tokens * width;
  const int64_t threads = dense.parallel.threads;
  const auto sum_of = [&](int64_t i) {
    return i == 0 ? block.y : dense.sums + i * Scratch::cost(kFewTokens * width);
  };
  internal::parallel_for(dense.parallel, threads, [&](int64_t i) {
    const Part part = part_of(dense.ffn.d_ff, threads, i);
    internal::SparseFfnTask task;
    task.bundles = dense.ffn.data + part.begin * 3 * width;
    task.count = part.end - part.begin;
    task.d_model = width;
    task.activation = dense.activation;
    task.x = block.x;
    task.tokens = block.tokens;
    task.y = sum_of(i);
    task.hidden = dense.hidden + part.begin * block.stride;
    task.hidden_stride = block.stride;
    std::fill_n(task.hidden, task.count * block.stride, 0.0f);
    dense.kernels.sparse_ffn(task);
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
                    memory.take(ffn.d_model * block),
                    memory.take(ffn.d_ff * block),
                    memory.take(block),
                    memory.take(threads * kTokenBlock),
                    memory.take(threads * kPackedSize),
                    memory.take(threads * Scratch::cost(kFewTokens * ffn.d_model)),
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
