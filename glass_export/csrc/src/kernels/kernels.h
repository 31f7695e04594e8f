// The functions that exist once per instruction set, and what they take.
//
// Tasks are plain structs of pointers, so that no inline function is shared between objects that
// are compiled for different processors. Everything is validated before it comes here.
//
// Legend: S tokens, D model width, F FFN width, E head width; tokens of a block are padded to
// `stride`, a multiple of the vector width, and a [F,stride] matrix has the tokens in its rows.
#pragma once

#include <cstdint>

#include "glass/base.h"
#include "glass/ffn.h"

namespace glass::internal {

// Tokens that one pass over the weights serves; a multiple of every vector width.
constexpr int64_t kTokenBlock = 64;
// Vector widths divide it: padding tokens to it fits every instruction set.
constexpr int64_t kMaxLanes = 16;
// Neurons whose contribution is summed before it is added to y.
constexpr int64_t kNeuronBlock = 64;
// Columns of `down` that are packed at a time, at most.
constexpr int64_t kMaxTileColumns = 64;
// Keys whose logits are held at a time.
constexpr int64_t kKeyBlock = 128;
// Query rows (heads of a group times tokens) that attend together.
constexpr int64_t kQueryBlock = 64;
// Tokens among them, at most: keys that only some of them see are handled one by one.
constexpr int64_t kQueryTokens = 16;

// One thread's share of the neurons of one layer, for all tokens.
struct SparseFfnTask {
  int64_t bundle_rows = 3;           // 2 of a plain FFN
  const float* bundles = nullptr;    // [F,bundle_rows,D]
  const float* bias = nullptr;       // [F] or null
  const int32_t* neurons = nullptr;  // [count], or null for 0..count-1
  int64_t count = 0;
  int64_t d_model = 0;
  Activation activation = Activation::kSilu;
  const float* x = nullptr;  // [S,D]
  int64_t tokens = 0;
  float* y = nullptr;       // [S,D], overwritten
  float* hidden = nullptr;  // [count,hidden_stride] to also get h, or null
  int64_t hidden_stride = 0;
};

// Rows [rows,depth] to panels: groups of as many rows as the register tile is wide (kPanelWidth),
// each stored transposed [depth,width]; the last group is as narrow as the vector width allows and
// padded with zeros.
struct PackTask {
  const float* rows = nullptr;
  int64_t row_stride = 0;
  int64_t count = 0;
  int64_t depth = 0;
  float* panels = nullptr;  // [depth * count rounded up to the vector width]
};

// h of consecutive neurons for a block of tokens.
struct HiddenTask {
  int64_t bundle_rows = 3;         // 2 of a plain FFN
  const float* bundles = nullptr;  // [count,bundle_rows,D]
  const float* bias = nullptr;     // [count] or null
  int64_t count = 0;
  int64_t d_model = 0;
  Activation activation = Activation::kSilu;
  const float* panels = nullptr;  // x, packed
  int64_t stride = 0;
  float* hidden = nullptr;  // [count,stride]
};

// Columns [column_begin, column_end) of y = h down^T for a block of tokens.
struct DownTask {
  int64_t bundle_rows = 3;         // 2 of a plain FFN
  const float* bundles = nullptr;  // [F,bundle_rows,D]
  int64_t d_ff = 0;
  int64_t d_model = 0;
  const float* hidden = nullptr;  // [F,stride]
  int64_t stride = 0;
  int64_t tokens = 0;
  int64_t column_begin = 0;
  int64_t column_end = 0;
  float* packed = nullptr;  // scratch [kNeuronBlock,kMaxTileColumns]
  float* y = nullptr;       // [tokens,D]
};

// Adds the scores of a block of tokens for neurons [neuron_begin, neuron_end).
struct ScoreTask {
  const float* hidden = nullptr;  // [F,stride]
  int64_t d_ff = 0;
  int64_t stride = 0;
  const float* weights = nullptr;  // [stride], 0 for padding
  int64_t neuron_begin = 0;
  int64_t neuron_end = 0;
  float* inverse_norms = nullptr;  // scratch [stride]
  float* abs_sum = nullptr;        // [F]
  float* sq_sum = nullptr;         // [F]
};

// Consecutive rows of one width, normalised; `skip` and `sum` are null without an addition.
struct NormTask {
  const float* x = nullptr;
  const float* skip = nullptr;
  const float* weight = nullptr;  // [width]
  float eps = 0.0f;
  int64_t rows = 0;
  int64_t width = 0;
  float* y = nullptr;
  float* sum = nullptr;
};

// Attention of `heads` query heads that share keys, for `tokens` consecutive tokens.
struct AttendTask {
  const float* queries = nullptr;  // [heads*tokens,E], head by head, rotated and scaled
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t head_dim = 0;
  const float* keys = nullptr;    // [C,E]
  const float* values = nullptr;  // [C,E]
  int64_t position = 0;           // of the first token
  int64_t window = 0;             // 0 for none
  float softcap = 0.0f;           // 0 for none
  float* y = nullptr;             // first token, first head; heads are E apart
  int64_t y_stride = 0;           // from token to token
  float* scratch = nullptr;       // attend_scratch(E) floats
};

// Floats of scratch of one AttendTask.
constexpr int64_t attend_scratch(int64_t head_dim) {
  return kQueryBlock * (2 * head_dim + kKeyBlock + 3);
}

struct Kernels {
  int64_t lanes;  // floats in a vector
  void (*sparse_ffn)(const SparseFfnTask& task);
  void (*pack)(const PackTask& task);
  void (*hidden)(const HiddenTask& task);
  void (*down)(const DownTask& task);
  void (*scores)(const ScoreTask& task);
  void (*norm)(const NormTask& task);
  void (*attend)(const AttendTask& task);
  void (*add)(float* sum, const float* x, int64_t size);  // sum += x
};

// Null where this build does not hold them.
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* neon_kernels();

}  // namespace glass::internal
