#include "glass/experts.h"

#include <algorithm>

#include "ffn_check.h"
#include "internal.h"

namespace glass {
namespace {

using internal::has_size;
using internal::kTokenBlock;
using internal::Scratch;

// Tokens of one expert side by side, and what it makes of them.
struct Batch {
  float* x;              // [S,D]
  float* y;              // [S,D]
  float* score_weights;  // [S]
  int64_t tokens = 0;    // of the expert
};

int64_t batch_cost(int64_t tokens, int64_t width) {
  return 2 * Scratch::cost(tokens * width) + Scratch::cost(tokens) + Scratch::kSlack;
}

Batch take_batch(Scratch& memory, int64_t tokens, int64_t width) {
  float* const x = memory.take(tokens * width);
  float* const y = memory.take(tokens * width);
  return {x, y, memory.take(tokens)};
}

FfnBundle expert(const Experts& experts, int64_t number) {
  FfnBundle ffn = experts.first;
  const int64_t bytes = ffn.d_ff * bundle_bytes(ffn.format, ffn.d_model);
  ffn.data = static_cast<const char*>(ffn.data) + number * bytes;
  return ffn;
}

// Whether `number` is among the k experts of token t, and then the weight of its output.
bool is_routed(const Routing& routing, int64_t k, int64_t t, int64_t number, float& weight) {
  const int64_t* const begin = routing.index.data + t * k;
  const int64_t* const found = std::find(begin, begin + k, number);
  if (found == begin + k) return false;
  weight = routing.weight.data[found - routing.index.data];
  return true;
}

Status check_routing(const Experts& experts, const Routing& routing, int64_t tokens) {
  const auto entries = static_cast<int64_t>(routing.index.size);
  if (entries == 0 || entries % tokens != 0 || !has_size(routing.index, entries) ||
      !has_size(routing.weight, entries)) {
    return Status::kInvalidArgument;
  }
  const int64_t k = entries / tokens;
  for (int64_t i = 0; i < entries; ++i) {
    const int64_t number = routing.index.data[i];
    const int64_t* const begin = routing.index.data + i / k * k;
    const bool repeated =
        std::find(begin, routing.index.data + i, number) != routing.index.data + i;
    if (number < 0 || number >= experts.count || repeated) return Status::kIndexOutOfRange;
  }
  return Status::kOk;
}

// The inner FFN's sizes grow with its tokens up to a block of them.
size_t dense_scratch(const Experts& experts, int64_t tokens, int64_t threads) {
  return dense_ffn_scratch(experts.first, std::min<int64_t>(tokens, kTokenBlock), threads);
}

// Calls compute(number, ffn, batch) for each expert that has tokens, ascending, and adds up y.
template <class Compute>
Status mix(const Experts& experts, const Routing& routing, Span<const float> x,
           const float* score_weights, Span<float> y, Batch batch, const Compute& compute) {
  const int64_t width = experts.first.d_model;
  const auto tokens = static_cast<int64_t>(x.size) / width;
  const auto k = static_cast<int64_t>(routing.index.size) / tokens;
  std::fill(y.begin(), y.end(), 0.0f);
  for (int64_t number = 0; number < experts.count; ++number) {
    float weight = 0.0f;
    batch.tokens = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      if (!is_routed(routing, k, t, number, weight)) continue;
      std::copy_n(x.data + t * width, width, batch.x + batch.tokens * width);
      if (score_weights != nullptr) batch.score_weights[batch.tokens] = score_weights[t];
      ++batch.tokens;
    }
    if (batch.tokens == 0) continue;
    const Status status = compute(number, expert(experts, number), batch);
    if (status != Status::kOk) return status;
    const float* part = batch.y;
    for (int64_t t = 0; t < tokens; ++t) {
      if (!is_routed(routing, k, t, number, weight)) continue;
      float* const sum = y.data + t * width;
      for (int64_t d = 0; d < width; ++d) sum[d] += weight * part[d];
      part += width;
    }
  }
  return Status::kOk;
}

Status check(const Experts& experts, Activation activation, Span<const float> x,
             const Routing& routing, Span<float> y, const Parallel& parallel) {
  const FfnBundle& ffn = experts.first;
  if (!internal::is_valid(ffn) || !ffn.gated || experts.count <= 0 ||
      !internal::is_valid(activation) || !internal::is_valid(parallel) ||
      !internal::are_tokens(ffn, x, y)) {
    return Status::kInvalidArgument;
  }
  return check_routing(experts, routing, static_cast<int64_t>(x.size) / ffn.d_model);
}

Span<const float> tokens_of(const Batch& batch, int64_t width) {
  return {batch.x, static_cast<size_t>(batch.tokens * width)};
}

Span<float> results_of(const Batch& batch, int64_t width) {
  return {batch.y, static_cast<size_t>(batch.tokens * width)};
}

}  // namespace

size_t sparse_experts_scratch(const Experts& experts, int64_t tokens, int64_t threads) {
  return static_cast<size_t>(batch_cost(tokens, experts.first.d_model)) +
         sparse_ffn_scratch(experts.first, tokens, threads);
}

Status sparse_experts(const Experts& experts, Activation activation, Span<const float> x,
                      const Routing& routing, Span<const int32_t> neurons, Span<float> y,
                      Span<float> scratch, const Parallel& parallel) {
  const Status status = check(experts, activation, x, routing, y, parallel);
  if (status != Status::kOk) return status;
  const int64_t width = experts.first.d_model, tokens = static_cast<int64_t>(x.size) / width;
  const auto entries = static_cast<int64_t>(neurons.size);
  if (neurons.data == nullptr || entries % experts.count != 0) return Status::kInvalidArgument;
  if (scratch.size < sparse_experts_scratch(experts, tokens, parallel.threads)) {
    return Status::kScratchTooSmall;
  }
  const int64_t kept = entries / experts.count;
  const size_t inner = sparse_ffn_scratch(experts.first, tokens, parallel.threads);
  Scratch memory(scratch);
  const Batch batch = take_batch(memory, tokens, width);
  float* const rest = memory.take(0);
  return mix(
      experts, routing, x, nullptr, y, batch,
      [&](int64_t number, const FfnBundle& ffn, const Batch& own) {
        const Span<const int32_t> row{neurons.data + number * kept, static_cast<size_t>(kept)};
        return sparse_ffn(ffn, activation, tokens_of(own, width), row, results_of(own, width),
                          {rest, inner}, parallel);
      });
}

size_t dense_experts_scratch(const Experts& experts, int64_t tokens, int64_t threads) {
  return static_cast<size_t>(batch_cost(tokens, experts.first.d_model)) +
         dense_scratch(experts, tokens, threads);
}

Status dense_experts(const Experts& experts, Activation activation, Span<const float> x,
                     const Routing& routing, Span<const float> score_weights, Span<float> y,
                     Span<float> abs_sum, Span<float> sq_sum, Span<float> scratch,
                     const Parallel& parallel) {
  const Status status = check(experts, activation, x, routing, y, parallel);
  if (status != Status::kOk) return status;
  const int64_t width = experts.first.d_model, tokens = static_cast<int64_t>(x.size) / width;
  const int64_t d_ff = experts.first.d_ff, sums = experts.count * d_ff;
  if (!has_size(score_weights, tokens) || !has_size(abs_sum, sums) || !has_size(sq_sum, sums)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < dense_experts_scratch(experts, tokens, parallel.threads)) {
    return Status::kScratchTooSmall;
  }
  const size_t inner = dense_scratch(experts, tokens, parallel.threads);
  Scratch memory(scratch);
  const Batch batch = take_batch(memory, tokens, width);
  float* const rest = memory.take(0);
  std::fill(abs_sum.begin(), abs_sum.end(), 0.0f);
  std::fill(sq_sum.begin(), sq_sum.end(), 0.0f);
  return mix(experts, routing, x, score_weights.data, y, batch,
             [&](int64_t number, const FfnBundle& ffn, const Batch& own) {
               const auto row = [&](Span<float> all) {
                 return Span<float>{all.data + number * d_ff, static_cast<size_t>(d_ff)};
               };
               const Span<const float> weights{own.score_weights, static_cast<size_t>(own.tokens)};
               return dense_ffn(ffn, activation, tokens_of(own, width), weights,
                                results_of(own, width), row(abs_sum), row(sq_sum), {rest, inner},
                                parallel);
             });
}

}  // namespace glass
