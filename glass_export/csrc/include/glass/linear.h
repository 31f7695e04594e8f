// Linear layers and embeddings whose weights are integers.
//
// Legend: S tokens, N rows (output features), D depth (input features), V rows of an embedding.
#pragma once

#include "glass/base.h"
#include "glass/ffn.h"

namespace glass {

// A weight matrix [N,D], kInt8 or kInt4: N rows of row_bytes() without padding, each the integers
// of a bundle's row, then D / kGroupSize float16 scales. `data` is a multiple of 2.
struct LinearWeights {
  const void* data = nullptr;
  int64_t rows = 0;   // N
  int64_t depth = 0;  // D, a multiple of kGroupSize
  BundleFormat format = BundleFormat::kInt4;
};

// Bytes of one row: D + D / 16 (int8) or D / 2 + D / 16 (int4).
int64_t row_bytes(BundleFormat format, int64_t depth);

// The integer format whose rows of D weights have so many bytes; false when there is none.
bool row_format(int64_t bytes, int64_t depth, BundleFormat& format);

// Floats of scratch that linear needs for `tokens` S on `threads` threads.
size_t linear_scratch(const LinearWeights& weights, int64_t tokens, int64_t threads);

// y [S,N] = x [S,D] weights^T + bias [N], or without a bias where that is empty.
//
// x is quantised to int8, with a scale for each kGroupSize values of a token; a token with NaN or
// infinity becomes NaN.
Status linear(const LinearWeights& weights, Span<const float> bias, Span<const float> x,
              Span<float> y, Span<float> scratch, const Parallel& parallel);

// y [S,D] = the rows of the weights [V,D] that ids [S] name, as floats.
//
// kIndexOutOfRange where an id is negative or not below V; nothing is written then.
Status embedding(const LinearWeights& weights, Span<const int64_t> ids, Span<float> y);

}  // namespace glass
