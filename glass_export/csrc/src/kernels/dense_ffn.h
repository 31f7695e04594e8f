// The FFN of all neurons for a block of tokens, as matrix products, and the local scores.
#pragma once

#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// Rows side by side, transposed; see PackTask.
void pack(const PackTask& task) {
  float* panel = task.panels;
  for (int64_t first = 0; first < task.count; first += kPanelWidth) {
    const int64_t width = smaller(round_up(task.count - first, kLanes), kPanelWidth);
    const int64_t rows = smaller(task.count - first, width);
    const float* source = task.rows + first * task.row_stride;
    for (int64_t d = 0; d < task.depth; ++d, panel += width) {
      for (int64_t r = 0; r < rows; ++r) panel[r] = source[r * task.row_stride + d];
      for (int64_t r = rows; r < width; ++r) panel[r] = 0.0f;
    }
  }
}

// h of kCount gated neurons for the kVecs vectors of tokens of one panel.
template <int kCount, int kVecs>
inline void gated_tile(const HiddenTask& task, int64_t neuron, int64_t token) {
  const int64_t bundle = 3 * task.d_model;
  const RowPairs rows{task.bundles + neuron * bundle, bundle, task.d_model};
  const auto tile =
      multiply_pairs<kCount, kVecs>(rows, task.panels + token * task.d_model, task.d_model);
  for (int n = 0; n < kCount; ++n) {
    float* h = task.hidden + (neuron + n) * task.stride + token;
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      const Vec gate = activate(task.activation, tile.sums[n][0][v]);
      store(h + v * kLanes, mul(gate, tile.sums[n][1][v]));
    }
  }
}

// h of kCount pairs of plain neurons; of a neuron that is left alone, which makes a pair with
// itself, where it is the last.
template <int kCount, int kVecs>
inline void plain_tile(const HiddenTask& task, int64_t neuron, int64_t token) {
  const int64_t bundle = 2 * task.d_model, left = task.count - neuron;
  const RowPairs rows{task.bundles + neuron * bundle, 2 * bundle, left == 1 ? 0 : bundle};
  const auto tile =
      multiply_pairs<kCount, kVecs>(rows, task.panels + token * task.d_model, task.d_model);
  for (int n = 0; n < 2 * kCount && n < left; ++n) {
    float* h = task.hidden + (neuron + n) * task.stride + token;
    const Vec bias = task.bias == nullptr ? zero() : broadcast(task.bias[neuron + n]);
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      store(h + v * kLanes, activate(task.activation, add(tile.sums[n / 2][n % 2][v], bias)));
    }
  }
}

template <bool kGated, int kCount, int kVecs>
inline void hidden_tile(const HiddenTask& task, int64_t neuron, int64_t token) {
  if constexpr (kGated) {
    gated_tile<kCount, kVecs>(task, neuron, token);
  } else {
    plain_tile<kCount, kVecs>(task, neuron, token);
  }
}

template <bool kGated, int kCount>
inline void hidden_tiles(const HiddenTask& task, int64_t neuron) {
  constexpr int kTwo = kTokenVecs < 2 ? kTokenVecs : 2, kThree = kTokenVecs < 3 ? kTokenVecs : 3;
  int64_t token = 0;
  for (; token + kPanelWidth <= task.stride; token += kPanelWidth) {
    hidden_tile<kGated, kCount, kTokenVecs>(task, neuron, token);
  }
  switch ((task.stride - token) / kLanes) {
    case 1:
      return hidden_tile<kGated, kCount, 1>(task, neuron, token);
    case 2:
      return hidden_tile<kGated, kCount, kTwo>(task, neuron, token);
    case 3:
      return hidden_tile<kGated, kCount, kThree>(task, neuron, token);
  }
}

template <bool kGated>
void hidden_of(const HiddenTask& task) {
  constexpr int64_t kEach = kGated ? 1 : 2;  // neurons of a pair of rows
  int64_t neuron = 0;
  for (; neuron + kEach * kPairs <= task.count; neuron += kEach * kPairs) {
    hidden_tiles<kGated, kPairs>(task, neuron);
  }
  for (; neuron < task.count; neuron += kEach) hidden_tiles<kGated, 1>(task, neuron);
}

void hidden(const HiddenTask& task) {
  if (task.bundle_rows == 3) return hidden_of<true>(task);
  hidden_of<false>(task);
}

// Columns of the down rows of consecutive neurons to [count,kTileColumns].
inline void pack_down(const DownTask& task, int64_t neuron, int64_t count, int64_t column,
                      int64_t columns) {
  const int64_t bundle = task.bundle_rows * task.d_model;
  const float* row = task.bundles + (neuron + 1) * bundle - task.d_model + column;
  float* packed = task.packed;
  for (int64_t j = 0; j < count; ++j, row += bundle, packed += kTileColumns) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) store(packed + c, load(row + c));
    if (c < columns) store(packed + c, load_first(row + c, columns - c));
  }
}

void down(const DownTask& task) {
  for (int64_t neuron = 0; neuron < task.d_ff; neuron += kNeuronBlock) {
    const int64_t count = smaller(kNeuronBlock, task.d_ff - neuron);
    for (int64_t c = task.column_begin; c < task.column_end; c += kTileColumns) {
      const int64_t columns = smaller(kTileColumns, task.column_end - c);
      pack_down(task, neuron, count, c, columns);
      const ColumnTask product{task.hidden + neuron * task.stride,
                               task.stride,
                               task.packed,
                               kTileColumns,
                               count,
                               task.y + c,
                               task.d_model,
                               task.tokens,
                               neuron == 0};
      multiply_column_block(product, 0, columns);
    }
  }
}

// 1 / ||h_t||, summed by blocks of neurons; 10^15 where h_t is 0, as the definition in torch.
inline void inverse_norms(const ScoreTask& task) {
  for (int64_t t = 0; t < task.stride; t += kLanes) {
    Vec total = zero();
    for (int64_t first = 0; first < task.d_ff; first += kNeuronBlock) {
      const int64_t last = smaller(first + kNeuronBlock, task.d_ff);
      Vec squares = zero();
      for (int64_t j = first; j < last; ++j) {
        const Vec h = load(task.hidden + j * task.stride + t);
        squares = fma(h, h, squares);
      }
      total = add(total, squares);
    }
    const Vec norm = sqrt(max(broadcast(1e-30f), total));
    store(task.inverse_norms + t, div(broadcast(1.0f), norm));
  }
}

void scores(const ScoreTask& task) {
  inverse_norms(task);
  for (int64_t j = task.neuron_begin; j < task.neuron_end; ++j) {
    Vec abs_sum = zero(), sq_sum = zero();
    for (int64_t t = 0; t < task.stride; t += kLanes) {
      const Vec unit = mul(load(task.hidden + j * task.stride + t), load(task.inverse_norms + t));
      const Vec weight = load(task.weights + t);
      abs_sum = fma(weight, abs(unit), abs_sum);
      sq_sum = fma(weight, mul(unit, unit), sq_sum);
    }
    task.abs_sum[j] += sum(abs_sum);
    task.sq_sum[j] += sum(sq_sum);
  }
}

// sum += x.
void add(float* sum, const float* x, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(sum + i, add(load(sum + i), load(x + i)));
  for (; i < size; ++i) sum[i] += x[i];
}

}  // namespace
}  // namespace glass::internal
