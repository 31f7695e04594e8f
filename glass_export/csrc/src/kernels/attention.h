// Causal attention of a block of query rows over one head's keys, with a running softmax.
//
// The rows are the query heads that share the keys times a few consecutive tokens. Logits are a
// product rows x panel with the keys as rows, so that a vector holds one key's logits of many query
// rows and softmax needs no sum across a vector. Keys that only some of the tokens see are
// "ragged": their logits are masked, and their values are added to the tokens that see them and to
// no other, so that whatever lies in a key or value row cannot reach a token that does not see it.
#pragma once

#include "kernels/dense_ffn.h"
#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

constexpr float kMasked = -__builtin_inff();
constexpr float kLowest = -3.0e38f;  // finite: kMasked - kLowest is no NaN

struct KeyRange {
  int64_t begin;
  int64_t end;
};

// The arrays of one AttendTask and what stays the same over its blocks of keys.
struct AttendState {
  int64_t rows;     // heads * tokens
  int64_t stride;   // rows, padded
  float* panels;    // queries, packed
  float* output;    // [rows,E], not yet divided by `total`
  float* weights;   // [kKeyBlock,stride]: logits, then their exponentials
  float* highest;   // [stride] largest logit so far
  float* total;     // [stride] sum of the exponentials
  float* rescale;   // [stride] factor of what was summed before this block
  KeyRange common;  // keys that every token sees; may be empty
};

inline int64_t first_visible(const AttendTask& task, int64_t token) {
  const int64_t first = task.position + token + 1 - task.window;
  return task.window == 0 || first < 0 ? 0 : first;
}

inline bool sees(const AttendTask& task, int64_t token, int64_t key) {
  return key >= first_visible(task, token) && key <= task.position + token;
}

inline AttendState begin_attention(const AttendTask& task) {
  AttendState state;
  state.rows = task.heads * task.tokens;
  state.stride = round_up(state.rows, kLanes);
  state.panels = task.scratch;
  state.output = state.panels + kQueryBlock * task.head_dim;
  state.weights = state.output + kQueryBlock * task.head_dim;
  state.highest = state.weights + kQueryBlock * kKeyBlock;
  state.total = state.highest + kQueryBlock;
  state.rescale = state.total + kQueryBlock;
  state.common = {first_visible(task, task.tokens - 1), task.position + 1};
  pack({task.queries, task.head_dim, state.rows, task.head_dim, state.panels});
  for (int64_t i = 0; i < state.rows * task.head_dim; ++i) state.output[i] = 0.0f;
  for (int64_t i = 0; i < state.stride; ++i) state.highest[i] = kLowest;
  for (int64_t i = 0; i < state.stride; ++i) state.total[i] = 0.0f;
  return state;
}

// Logits of up to kCount pairs of keys (`count` keys) for one panel of kVecs vectors of rows.
template <int kCount, int kVecs>
inline void logits_tile(const AttendTask& task, const AttendState& state, const float* keys,
                        int64_t count, int64_t row, float* logits) {
  const int64_t width = task.head_dim;
  const RowPairs pairs{keys, 2 * width, count == 1 ? 0 : width};
  const auto tile = multiply_pairs<kCount, kVecs>(pairs, state.panels + row * width, width);
  for (int64_t k = 0; k < count; ++k) {
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      store(logits + k * state.stride + row + v * kLanes, tile.sums[k / 2][k % 2][v]);
    }
  }
}

template <int kCount>
inline void logits_tiles(const AttendTask& task, const AttendState& state, const float* keys,
                         int64_t count, float* logits) {
  int64_t row = 0;
  for (; row + kPanelWidth <= state.stride; row += kPanelWidth) {
    logits_tile<kCount, kTokenVecs>(task, state, keys, count, row, logits);
  }
  constexpr int kTwo = kTokenVecs < 2 ? kTokenVecs : 2, kThree = kTokenVecs < 3 ? kTokenVecs : 3;
  switch ((state.stride - row) / kLanes) {
    case 1:
      return logits_tile<kCount, 1>(task, state, keys, count, row, logits);
    case 2:
      return logits_tile<kCount, kTwo>(task, state, keys, count, row, logits);
    case 3:
      return logits_tile<kCount, kThree>(task, state, keys, count, row, logits);
  }
}

inline void compute_logits(const AttendTask& task, const AttendState& state, KeyRange block) {
  constexpr int64_t kKeys = 2 * kPairs;
  const int64_t width = task.head_dim, stride = state.stride;
  int64_t k = block.begin;
  for (; k + kKeys <= block.end; k += kKeys) {
    float* logits = state.weights + (k - block.begin) * stride;
    logits_tiles<kPairs>(task, state, task.keys + k * width, kKeys, logits);
  }
  for (; k < block.end; k += 2) {
    float* logits = state.weights + (k - block.begin) * stride;
    logits_tiles<1>(task, state, task.keys + k * width, smaller(2, block.end - k), logits);
  }
}

inline void cap_logits(const AttendTask& task, const AttendState& state, int64_t keys) {
  const Vec cap = broadcast(task.softcap), inverse = broadcast(1.0f / task.softcap);
  for (int64_t i = 0; i < keys * state.stride; i += kLanes) {
    store(state.weights + i, mul(cap, tanh(mul(load(state.weights + i), inverse))));
  }
}

// Calls function(key, token) for the keys of the block that not every token sees.
template <class Function>
inline void for_each_ragged(const AttendTask& task, const AttendState& state, KeyRange block,
                            const Function& function) {
  for (int64_t key = block.begin; key < block.end; ++key) {
    if (key >= state.common.begin && key < state.common.end) continue;
    for (int64_t token = 0; token < task.tokens; ++token) function(key, token);
  }
}

inline void mask_logits(const AttendTask& task, const AttendState& state, KeyRange block) {
  for_each_ragged(task, state, block, [&](int64_t key, int64_t token) {
    if (sees(task, token, key)) return;
    float* logits = state.weights + (key - block.begin) * state.stride + token;
    for (int64_t head = 0; head < task.heads; ++head) logits[head * task.tokens] = kMasked;
  });
}

// Logits to exponentials relative to the largest so far; updates highest, total and rescale.
inline void exponentiate(const AttendState& state, int64_t keys) {
  for (int64_t r = 0; r < state.stride; r += kLanes) {
    float* column = state.weights + r;
    const Vec before = load(state.highest + r);
    Vec highest = before;
    for (int64_t k = 0; k < keys; ++k) highest = max(highest, load(column + k * state.stride));
    const Vec rescale = exp(sub(before, highest));
    Vec total = mul(load(state.total + r), rescale);
    for (int64_t k = 0; k < keys; ++k) {
      const Vec weight = exp(sub(load(column + k * state.stride), highest));
      store(column + k * state.stride, weight);
      total = add(total, weight);
    }
    store(state.highest + r, highest);
    store(state.rescale + r, rescale);
    store(state.total + r, total);
  }
}

// y += factor * x.
inline void add_scaled(float factor, const float* x, int64_t size, float* y) {
  const Vec scale = broadcast(factor);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, fma(scale, load(x + i), load(y + i)));
  for (; i < size; ++i) y[i] += factor * x[i];
}

// y = factor * x.
inline void copy_scaled(float factor, const float* x, int64_t size, float* y) {
  const Vec scale = broadcast(factor);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, mul(scale, load(x + i)));
  for (; i < size; ++i) y[i] = factor * x[i];
}

inline void add_common_values(const AttendTask& task, const AttendState& state, KeyRange block) {
  const int64_t begin = block.begin > state.common.begin ? block.begin : state.common.begin;
  const int64_t end = smaller(block.end, state.common.end);
  if (begin >= end) return;
  const int64_t width = task.head_dim;
  const ColumnTask product{state.weights + (begin - block.begin) * state.stride,
                           state.stride,
                           task.values + begin * width,
                           width,
                           end - begin,
                           state.output,
                           width,
                           state.rows,
                           false};
  for (int64_t c = 0; c < width; c += kTileColumns) {
    multiply_column_block(product, c, smaller(kTileColumns, width - c));
  }
}

inline void add_ragged_values(const AttendTask& task, const AttendState& state, KeyRange block) {
  const int64_t width = task.head_dim;
  for_each_ragged(task, state, block, [&](int64_t key, int64_t token) {
    if (!sees(task, token, key)) return;
    const float* weights = state.weights + (key - block.begin) * state.stride;
    for (int64_t row = token; row < state.rows; row += task.tokens) {
      add_scaled(weights[row], task.values + key * width, width, state.output + row * width);
    }
  });
}

inline void attend_block(const AttendTask& task, const AttendState& state, KeyRange block) {
  const int64_t keys = block.end - block.begin, width = task.head_dim;
  compute_logits(task, state, block);
  if (task.softcap > 0.0f) cap_logits(task, state, keys);
  mask_logits(task, state, block);
  exponentiate(state, keys);
  for (int64_t row = 0; row < state.rows; ++row) {
    if (state.rescale[row] == 1.0f) continue;
    copy_scaled(state.rescale[row], state.output + row * width, width, state.output + row * width);
  }
  add_common_values(task, state, block);
  add_ragged_values(task, state, block);
}

void attend(const AttendTask& task) {
  const AttendState state = begin_attention(task);
  const int64_t end = task.position + task.tokens;
  for (int64_t key = first_visible(task, 0); key < end; key += kKeyBlock) {
    attend_block(task, state, {key, smaller(key + kKeyBlock, end)});
  }
  for (int64_t row = 0; row < state.rows; ++row) {
    const int64_t head = row / task.tokens, token = row % task.tokens;
    float* y = task.y + token * task.y_stride + head * task.head_dim;
    copy_scaled(1.0f / state.total[row], state.output + row * task.head_dim, task.head_dim, y);
  }
}

}  // namespace
}  // namespace glass::internal
