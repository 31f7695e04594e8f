// The two register tiles that all matrix products are made of. Include after one vec_*.h.
//
//   rows x panel:    acc[r][t] = sum_d row_r[d] panel[d][t]   tokens lie along the vectors
//   columns:         acc[t][c] = sum_j h[j][t] row_j[c]       columns lie along the vectors
//
// Neither needs a sum across a vector, and both broadcast one operand straight from memory.
#pragma once

#include <cstdint>

#if defined(__clang__)
#define GLASS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define GLASS_UNROLL _Pragma("GCC unroll 16")
#endif

namespace glass::internal {
namespace {

constexpr int64_t kLine = 16;  // floats in a cache line
constexpr int kPairs = 3;      // pairs of rows in a tile of rows x panel
constexpr int kTileTokens = 4;
constexpr int64_t kPanelWidth = kTokenVecs * kLanes;
constexpr int64_t kTileColumns = kColumnVecs * kLanes;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Pairs of rows: row i of pair p begins at first + p * pair_stride + i * row_stride.
struct RowPairs {
  const float* first;
  int64_t pair_stride;
  int64_t row_stride;
};

template <int kCount, int kVecs>
struct PairTile {
  Vec sums[kCount][2][kVecs];
};

template <int kCount, int kVecs>
inline void multiply_step(const RowPairs& rows, int64_t d, const float* x,
                          PairTile<kCount, kVecs>& tile) {
  Vec token[kVecs];
  GLASS_UNROLL
  for (int v = 0; v < kVecs; ++v) token[v] = load(x + v * kLanes);
  GLASS_UNROLL
  for (int p = 0; p < kCount; ++p) {
    const float* row = rows.first + p * rows.pair_stride + d;
    GLASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Vec weight = broadcast(row[i * rows.row_stride]);
      GLASS_UNROLL
      for (int v = 0; v < kVecs; ++v) {
        tile.sums[p][i][v] = fma(weight, token[v], tile.sums[p][i][v]);
      }
    }
  }
}

// Products of kCount pairs of rows of length `depth` with a panel [depth, kVecs * kLanes]. The rows
// that follow these are fetched meanwhile.
template <int kCount, int kVecs>
inline PairTile<kCount, kVecs> multiply_pairs(const RowPairs& rows, const float* panel,
                                              int64_t depth) {
  PairTile<kCount, kVecs> tile;
  GLASS_UNROLL
  for (int p = 0; p < kCount; ++p) {
    GLASS_UNROLL
    for (int v = 0; v < 2 * kVecs; ++v) tile.sums[p][v / kVecs][v % kVecs] = zero();
  }
  constexpr int64_t kWidth = kVecs * kLanes;
  int64_t d = 0;
  for (; d + kLine <= depth; d += kLine) {
    const float* next = rows.first + kCount * rows.pair_stride + d;
    GLASS_UNROLL
    for (int p = 0; p < kCount; ++p) {
      prefetch(next + p * rows.pair_stride);
      prefetch(next + p * rows.pair_stride + rows.row_stride);
    }
    for (int64_t i = 0; i < kLine; ++i) {
      multiply_step<kCount, kVecs>(rows, d + i, panel + (d + i) * kWidth, tile);
    }
  }
  for (; d < depth; ++d) multiply_step<kCount, kVecs>(rows, d, panel + d * kWidth, tile);
  return tile;
}

// Loads of rows whose last vector may be incomplete.
template <bool kPartial>
inline Vec load_column(const float* row, int v, int vecs, int64_t tail) {
  if (kPartial && v == vecs - 1) return load_first(row + v * kLanes, tail);
  return load(row + v * kLanes);
}

template <bool kPartial>
inline void store_column(float* row, int v, int vecs, int64_t tail, Vec value) {
  if (kPartial && v == vecs - 1) {
    store_first(row + v * kLanes, value, tail);
  } else {
    store(row + v * kLanes, value);
  }
}

// One product h^T rows: h [count,stride], rows [count,columns] and y [tokens,columns].
struct ColumnTask {
  const float* h;
  int64_t h_stride;
  const float* rows;
  int64_t row_stride;
  int64_t count;
  float* y;
  int64_t y_stride;
  int64_t tokens;
  bool overwrite;  // y = product, else y += product
};

// Up to kTileTokens tokens from `token` on, kVecs vectors of columns from `column` on, the last of
// them of `tail` lanes when kPartial. h may be read beyond the last token, up to kTileTokens.
template <int kVecs, bool kPartial>
inline void multiply_columns(const ColumnTask& task, int64_t token, int64_t column, int64_t tail) {
  Vec sums[kTileTokens][kVecs];
  GLASS_UNROLL
  for (int t = 0; t < kTileTokens; ++t) {
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) sums[t][v] = zero();
  }
  const float* h = task.h + token;
  const float* row = task.rows + column;
  for (int64_t j = 0; j < task.count; ++j, h += task.h_stride, row += task.row_stride) {
    Vec columns[kVecs];
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) columns[v] = load_column<kPartial>(row, v, kVecs, tail);
    GLASS_UNROLL
    for (int t = 0; t < kTileTokens; ++t) {
      const Vec factor = broadcast(h[t]);
      GLASS_UNROLL
      for (int v = 0; v < kVecs; ++v) sums[t][v] = fma(factor, columns[v], sums[t][v]);
    }
  }
  for (int t = 0; t < kTileTokens && token + t < task.tokens; ++t) {
    float* y = task.y + (token + t) * task.y_stride + column;
    GLASS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      const Vec before = task.overwrite ? zero() : load_column<kPartial>(y, v, kVecs, tail);
      store_column<kPartial>(y, v, kVecs, tail, add(before, sums[t][v]));
    }
  }
}

template <int kVecs>
inline void multiply_column_tiles(const ColumnTask& task, int64_t column, int64_t columns) {
  const int64_t tail = columns - (kVecs - 1) * kLanes;
  for (int64_t token = 0; token < task.tokens; token += kTileTokens) {
    if (tail < kLanes) {
      multiply_columns<kVecs, true>(task, token, column, tail);
    } else {
      multiply_columns<kVecs, false>(task, token, column, tail);
    }
  }
}

// y (+)= h^T rows for all tokens and columns [column, column + columns), columns <= kTileColumns.
inline void multiply_column_block(const ColumnTask& task, int64_t column, int64_t columns) {
  switch (round_up(columns, kLanes) / kLanes) {
    case 1:
      return multiply_column_tiles<1>(task, column, columns);
    case 2:
      return multiply_column_tiles<2>(task, column, columns);
    case 3:
      return multiply_column_tiles<(kColumnVecs < 3 ? kColumnVecs : 3)>(task, column, columns);
    default:
      return multiply_column_tiles<kColumnVecs>(task, column, columns);
  }
}

}  // namespace
}  // namespace glass::internal
