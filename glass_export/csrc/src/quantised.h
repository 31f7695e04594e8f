// Tokens in int8, and sizes of integer rows.
#pragma once

#include "glass/ffn.h"
#include "internal.h"

namespace glass::internal {

inline bool is_integer(BundleFormat format) {
  return format == BundleFormat::kInt8 || format == BundleFormat::kInt4;
}

// Floats of scratch for x [S,D] in int8; 0 where weights are floats.
inline int64_t quantised_cost(BundleFormat format, int64_t tokens, int64_t depth) {
  if (!is_integer(format)) return 0;
  const int64_t values = tokens * quantised_stride(depth) / int64_t{sizeof(float)};
  return Scratch::cost(values) + Scratch::cost(tokens * scales_stride(depth)) +
         Scratch::cost(tokens * offsets_stride(depth));
}

// x [S,D].
struct Tokens {
  const float* x;
  int64_t count;
  int64_t depth;
};

// x in int8, in arrays from `memory`. Threads share the tokens where there are many.
inline QuantisedTokens quantise(BundleFormat format, const Tokens& tokens, const Parallel& parallel,
                                Scratch& memory) {
  constexpr int64_t kLeastTokens = 8;  // of a thread
  const int64_t depth = tokens.depth, stride = quantised_stride(depth);
  auto* values =
      reinterpret_cast<int8_t*>(memory.take(tokens.count * stride / int64_t{sizeof(float)}));
  float* scales = memory.take(tokens.count * scales_stride(depth));
  auto* offsets = reinterpret_cast<int32_t*>(memory.take(tokens.count * offsets_stride(depth)));
  const int64_t parts =
      std::min(parallel.threads, std::max<int64_t>(1, tokens.count / kLeastTokens));
  parallel_for(parallel, parts, [&](int64_t i) {
    const Part part = part_of(tokens.count, parts, i);
    QuantiseTask task;
    task.format = format;
    task.x = tokens.x + part.begin * depth;
    task.tokens = part.end - part.begin;
    task.depth = depth;
    task.values = values + part.begin * stride;
    task.scales = scales + part.begin * scales_stride(depth);
    task.offsets = offsets + part.begin * offsets_stride(depth);
    integer_kernels().quantise(task);
  });
  return {values, scales, offsets};
}

}  // namespace glass::internal
