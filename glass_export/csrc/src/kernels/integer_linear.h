// Linear layers and embeddings of integer weights, and tiles of rows by tokens that dense FFNs use
// too. Include after one vec_*.h and one integer_*.h, which has
//   kGemmTokens                             tokens of a tile of two rows
//   multiply_rows<kInt4, kRows, kTokens>    products of rows and tokens
//   group_floats<kInt4>                     the integers of a group as floats
//   load_scales                             scales of consecutive groups
#pragma once

#include "kernels/integer_kernels.h"
#include "kernels/integer_quantise.h"
#include "kernels/integer_row.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// One token's product with the rows reads them once, at the speed of memory: rows are taken
// together, to wait for several at once, and fetched so many bytes ahead.
constexpr int kVectorRows = 4;
constexpr int64_t kFetchAhead = 8192;

// Tokens from a tile's first on: whole tiles, then a half, then single ones. `tile` is called with
// the number of tokens as a type, and the first.
template <int kTokens>
struct Count {
  static constexpr int value = kTokens;
};

template <class Tile>
inline void each_token_tile(int64_t tokens, const Tile& tile) {
  int64_t t = 0;
  for (; t + kGemmTokens <= tokens; t += kGemmTokens) tile(Count<kGemmTokens>{}, t);
  if (t + kGemmTokens / 2 <= tokens) {
    tile(Count<kGemmTokens / 2>{}, t);
    t += kGemmTokens / 2;
  }
  for (; t < tokens; ++t) tile(Count<1>{}, t);
}

inline float with_bias(const LinearTask& task, int64_t row, float product) {
  return task.bias == nullptr ? product : product + task.bias[row];
}

// Rows [first, first + kRows) times tokens [t, t + kTokens).
template <bool kInt4, int kRows, int kTokens>
inline void linear_tile(const LinearTask& task, const IntegerLayout& layout, int64_t first,
                        int64_t t, Fetch& fetch) {
  const int64_t bytes = layout.row + 2 * layout.groups;
  IntegerRow rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = linear_row(layout, task.rows + (first + r) * bytes);
  alignas(64) float products[kRows * kTokens];
  multiply_rows<kInt4, kRows, kTokens>(rows, token_at(task.x, task.depth, t), task.depth, fetch,
                                       products);
  for (int s = 0; s < kTokens; ++s) {
    float* y = task.y + (t + s) * task.y_stride + first;
    for (int r = 0; r < kRows; ++r) y[r] = with_bias(task, first + r, products[r * kTokens + s]);
  }
}

// Fetches what follows rows [first, first + count).
inline Fetch fetch_ahead(const LinearTask& task, const IntegerLayout& layout, int64_t first,
                         int64_t count) {
  const int64_t bytes = layout.row + 2 * layout.groups, end = task.count * bytes;
  const int64_t ahead = smaller(first * bytes + kFetchAhead, end);
  return Fetch(task.rows + ahead, smaller(count * bytes, end - ahead));
}

template <bool kInt4>
void linear_vector(const LinearTask& task, const IntegerLayout& layout) {
  int64_t row = 0;
  for (; row + kVectorRows <= task.count; row += kVectorRows) {
    Fetch fetch = fetch_ahead(task, layout, row, kVectorRows);
    linear_tile<kInt4, kVectorRows, 1>(task, layout, row, 0, fetch);
    fetch.rest();
  }
  Fetch none;
  for (; row < task.count; ++row) linear_tile<kInt4, 1, 1>(task, layout, row, 0, none);
}

// Tiles of tokens one after the other for rows that stay in cache.
template <bool kInt4>
void linear_matrix(const LinearTask& task, const IntegerLayout& layout) {
  Fetch none;
  for (int64_t first = 0; first < task.count; first += kRowBlock) {
    const int64_t last = smaller(first + kRowBlock, task.count);
    each_token_tile(task.tokens, [&](auto tokens, int64_t t) {
      constexpr int kTokens = decltype(tokens)::value;
      int64_t row = first;
      for (; row + 2 <= last; row += 2) {
        Fetch fetch = t == 0 ? fetch_ahead(task, layout, row, 2) : none;
        linear_tile<kInt4, 2, kTokens>(task, layout, row, t, fetch);
        fetch.rest();
      }
      if (row < last) linear_tile<kInt4, 1, kTokens>(task, layout, row, t, none);
    });
  }
}

template <bool kInt4>
void linear_of(const LinearTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.depth);
  if (task.tokens == 1) return linear_vector<kInt4>(task, layout);
  linear_matrix<kInt4>(task, layout);
}

void linear(const LinearTask& task) {
  if (task.format == BundleFormat::kInt4) return linear_of<true>(task);
  linear_of<false>(task);
}

// `groups` groups of a row from `first` on as floats.
template <bool kInt4>
inline void row_floats(const IntegerRow& row, int64_t first, int64_t groups, float* out) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  for (int64_t g = 0; g < groups; g += kScaleBlock) {
    const int64_t count = smaller(kScaleBlock, groups - g);
    float scales[kScaleBlock];
    load_scales(row, first + g, count, scales);
    for (int64_t i = 0; i < count; ++i) {
      Vec values[kGroupVecs];
      group_floats<kInt4>(row.values + (first + g + i) * kBytes, values);
      const Vec scale = broadcast(scales[i]);
      float* at = out + (g + i) * kGroupSize;
      GLASS_UNROLL
      for (int v = 0; v < kGroupVecs; ++v) store(at + v * kLanes, mul(scale, values[v]));
    }
  }
}

template <bool kInt4>
void embedding_of(const EmbeddingTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.depth);
  for (int64_t i = 0; i < task.count; ++i) {
    const uint8_t* bytes = task.rows + task.ids[i] * (layout.row + 2 * layout.groups);
    row_floats<kInt4>(linear_row(layout, bytes), 0, layout.groups, task.y + i * task.depth);
  }
}

void embedding(const EmbeddingTask& task) {
  if (task.format == BundleFormat::kInt4) return embedding_of<true>(task);
  embedding_of<false>(task);
}

}  // namespace
}  // namespace glass::internal
