// The functions for integer weights that exist once per instruction set, and what they take. See
// kernels.h for the rules and docs/adr/0012-integer-bundles.md for the bytes.
//
// Legend: S tokens, D model width or depth of a linear layer, F FFN width, N rows of a linear
// layer.
#pragma once

#include <cstdint>

#include "glass/ffn.h"

namespace glass::internal {

// Rows that are multiplied with one tile of tokens after the other while they stay in cache.
constexpr int64_t kRowBlock = 64;
// Columns of `down` that are turned into floats at a time, for kNeuronBlock neurons.
constexpr int64_t kDownColumns = 64;

// Bytes of a token's int8 values, floats of its scales and 32-bit integers of its offsets: padded,
// so that whole vectors can be read. The first half of the values are the first 16 of each group,
// the second half the others, as low and high nibbles of weights are.
static inline int64_t quantised_stride(int64_t depth) { return (depth + 127) / 128 * 128; }
static inline int64_t scales_stride(int64_t depth) { return (depth / 32 + 15) / 16 * 16; }
static inline int64_t offsets_stride(int64_t depth) { return 4 * scales_stride(depth); }

// Tokens in int8: x = scale * value in each group. Weights are stored as unsigned numbers, 8 or 128
// too large; a group's offsets are what takes that off again. Its four are for bytes 0..3, 4..7,
// 8..11 and 12..15 of both halves.
struct QuantisedTokens {
  const int8_t* values = nullptr;    // [S,quantised_stride]
  const float* scales = nullptr;     // [S,scales_stride]
  const int32_t* offsets = nullptr;  // [S,offsets_stride], -8 or -128 times a sum of values
};

struct QuantiseTask {
  BundleFormat format = BundleFormat::kInt4;
  const float* x = nullptr;  // [S,D]
  int64_t tokens = 0;
  int64_t depth = 0;
  int8_t* values = nullptr;
  float* scales = nullptr;
  int32_t* offsets = nullptr;
};

// As SparseFfnTask, of integer weights.
struct IntegerFfnTask {
  BundleFormat format = BundleFormat::kInt4;
  int64_t bundle_rows = 3;  // 2 of a plain FFN
  const uint8_t* bundles = nullptr;
  const float* bias = nullptr;
  const int32_t* neurons = nullptr;
  int64_t count = 0;
  int64_t d_model = 0;
  Activation activation = Activation::kSilu;
  QuantisedTokens x;
  int64_t tokens = 0;
  float* y = nullptr;
  float* hidden = nullptr;
  int64_t hidden_stride = 0;
};

// h of consecutive neurons for a block of tokens.
struct IntegerHiddenTask {
  BundleFormat format = BundleFormat::kInt4;
  int64_t bundle_rows = 3;           // 2 of a plain FFN
  const uint8_t* bundles = nullptr;  // of the first neuron
  const float* bias = nullptr;       // the same; or null
  int64_t count = 0;
  int64_t d_model = 0;
  Activation activation = Activation::kSilu;
  QuantisedTokens x;
  int64_t tokens = 0;
  float* hidden = nullptr;  // [count,stride]; columns from `tokens` on become 0
  int64_t stride = 0;
};

// Columns [column_begin, column_end), whole groups, of y = h down^T for a block of tokens.
struct IntegerDownTask {
  BundleFormat format = BundleFormat::kInt4;
  int64_t bundle_rows = 3;  // 2 of a plain FFN
  const uint8_t* bundles = nullptr;
  int64_t d_ff = 0;
  int64_t d_model = 0;
  const float* hidden = nullptr;  // [F,stride]
  int64_t stride = 0;
  int64_t tokens = 0;
  int64_t column_begin = 0;
  int64_t column_end = 0;
  float* packed = nullptr;  // scratch [kNeuronBlock,kDownColumns]
  float* y = nullptr;       // [tokens,D]
};

// Consecutive rows of a linear layer for all tokens.
struct LinearTask {
  BundleFormat format = BundleFormat::kInt4;
  const uint8_t* rows = nullptr;  // [count,row_bytes]
  int64_t count = 0;
  int64_t depth = 0;
  const float* bias = nullptr;  // [count] or null
  QuantisedTokens x;
  int64_t tokens = 0;
  float* y = nullptr;  // token t at y + t * y_stride
  int64_t y_stride = 0;
};

// The chosen rows of an embedding as floats; ids are in range.
struct EmbeddingTask {
  BundleFormat format = BundleFormat::kInt4;
  const uint8_t* rows = nullptr;  // [V,row_bytes]
  int64_t depth = 0;
  const int64_t* ids = nullptr;  // [count]
  int64_t count = 0;
  float* y = nullptr;  // [count,D]
};

struct IntegerKernels {
  void (*quantise)(const QuantiseTask& task);
  void (*sparse_ffn)(const IntegerFfnTask& task);
  void (*hidden)(const IntegerHiddenTask& task);
  void (*down)(const IntegerDownTask& task);
  void (*linear)(const LinearTask& task);
  void (*embedding)(const EmbeddingTask& task);
};

// Null where this build does not hold them.
const IntegerKernels* portable_integer_kernels();
const IntegerKernels* avx2_integer_kernels();
const IntegerKernels* avx2_vnni_integer_kernels();
const IntegerKernels* avx512_vnni_integer_kernels();
const IntegerKernels* neon_integer_kernels();
const IntegerKernels* neon_dot_integer_kernels();
const IntegerKernels* neon_i8mm_integer_kernels();

}  // namespace glass::internal
