// The FFN of all neurons for a block of tokens where weights are integers. Include after
// integer_linear.h.
#pragma once

#include "kernels/integer_linear.h"
#include "kernels/kernels.h"
#include "kernels/math.h"

namespace glass::internal {
namespace {

// h of one gated neuron for tokens [t, t + kTokens).
template <bool kInt4, int kTokens>
inline void integer_gated_tile(const IntegerHiddenTask& task, const IntegerLayout& layout,
                               int64_t neuron, int64_t t) {
  const uint8_t* bundle = task.bundles + neuron * layout.stride;
  const IntegerRow rows[2] = {row_of(layout, bundle, 0), row_of(layout, bundle, 1)};
  Fetch none;
  float products[2 * kTokens];
  multiply_rows<kInt4, 2, kTokens>(rows, token_at(task.x, task.d_model, t), task.d_model, none,
                                   products);
  float* hidden = task.hidden + neuron * task.stride + t;
  for (int s = 0; s < kTokens; s += kLanes) {
    const int64_t count = smaller(kLanes, kTokens - s);
    const Vec gate = activate(task.activation, load_first(products + s, count));
    store_first(hidden + s, mul(gate, load_first(products + kTokens + s, count)), count);
  }
}

// h of two plain neurons, or of one where it is the last.
template <bool kInt4, int kTokens>
inline void integer_plain_tile(const IntegerHiddenTask& task, const IntegerLayout& layout,
                               int64_t neuron, int64_t t) {
  const int64_t neurons = smaller(2, task.count - neuron);
  const uint8_t* bundle = task.bundles + neuron * layout.stride;
  const IntegerRow rows[2] = {row_of(layout, bundle, 0),
                              row_of(layout, bundle + (neurons - 1) * layout.stride, 0)};
  Fetch none;
  float products[2 * kTokens];
  multiply_rows<kInt4, 2, kTokens>(rows, token_at(task.x, task.d_model, t), task.d_model, none,
                                   products);
  for (int64_t n = 0; n < neurons; ++n) {
    float* hidden = task.hidden + (neuron + n) * task.stride + t;
    const Vec bias = task.bias == nullptr ? zero() : broadcast(task.bias[neuron + n]);
    for (int s = 0; s < kTokens; s += kLanes) {
      const int64_t count = smaller(kLanes, kTokens - s);
      const Vec up = load_first(products + n * kTokens + s, count);
      store_first(hidden + s, activate(task.activation, add(up, bias)), count);
    }
  }
}

template <bool kInt4, bool kGated>
void integer_hidden_of(const IntegerHiddenTask& task) {
  constexpr int64_t kEach = kGated ? 1 : 2;  // neurons of a tile
  const IntegerLayout layout = layout_of(kInt4, task.d_model, kGated ? 3 : 2);
  for (int64_t first = 0; first < task.count; first += kRowBlock / 2) {
    const int64_t last = smaller(first + kRowBlock / 2, task.count);
    each_token_tile(task.tokens, [&](auto tokens, int64_t t) {
      constexpr int kTokens = decltype(tokens)::value;
      for (int64_t j = first; j < last; j += kEach) {
        if constexpr (kGated) {
          integer_gated_tile<kInt4, kTokens>(task, layout, j, t);
        } else {
          integer_plain_tile<kInt4, kTokens>(task, layout, j, t);
        }
      }
    });
  }
  for (int64_t j = 0; j < task.count; ++j) {
    for (int64_t t = task.tokens; t < task.stride; ++t) task.hidden[j * task.stride + t] = 0.0f;
  }
}

void integer_hidden(const IntegerHiddenTask& task) {
  const bool is_int4 = task.format == BundleFormat::kInt4;
  if (task.bundle_rows == 3) {
    return is_int4 ? integer_hidden_of<true, true>(task) : integer_hidden_of<false, true>(task);
  }
  is_int4 ? integer_hidden_of<true, false>(task) : integer_hidden_of<false, false>(task);
}

// Columns of the down rows of `count` neurons as floats, [count,kDownColumns].
template <bool kInt4>
inline void pack_integer_down(const IntegerDownTask& task, const IntegerLayout& layout,
                              int64_t neuron, int64_t count, int64_t column, int64_t columns) {
  for (int64_t j = 0; j < count; ++j) {
    const uint8_t* bundle = task.bundles + (neuron + j) * layout.stride;
    float* weights = task.packed + j * kDownColumns;
    row_floats<kInt4>(down_row(layout, bundle), column / kGroupSize, columns / kGroupSize, weights);
    add_outliers(layout, bundle, 1.0f, column, column + columns, weights);
  }
}

template <bool kInt4>
void integer_down_of(const IntegerDownTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.d_model, task.bundle_rows);
  for (int64_t neuron = 0; neuron < task.d_ff; neuron += kNeuronBlock) {
    const int64_t count = smaller(kNeuronBlock, task.d_ff - neuron);
    for (int64_t c = task.column_begin; c < task.column_end; c += kDownColumns) {
      const int64_t columns = smaller(kDownColumns, task.column_end - c);
      pack_integer_down<kInt4>(task, layout, neuron, count, c, columns);
      const ColumnTask product{task.hidden + neuron * task.stride,
                               task.stride,
                               task.packed,
                               kDownColumns,
                               count,
                               task.y + c,
                               task.d_model,
                               task.tokens,
                               neuron == 0};
      for (int64_t part = 0; part < columns; part += kTileColumns) {
        multiply_column_block(product, part, smaller(kTileColumns, columns - part));
      }
    }
  }
}

void integer_down(const IntegerDownTask& task) {
  if (task.format == BundleFormat::kInt4) return integer_down_of<true>(task);
  integer_down_of<false>(task);
}

}  // namespace
}  // namespace glass::internal
