// Where the parts of integer bundles and rows lie, their scales and outliers. See
// docs/adr/0012-integer-bundles.md.
#pragma once

#include <cstdint>
#include <cstring>

#include "glass/ffn.h"

namespace glass::internal {
namespace {

// Scales that are read at a time.
constexpr int64_t kScaleBlock = 16;

struct IntegerLayout {
  int64_t groups;    // of a row
  int64_t row;       // bytes of a row's integers
  int64_t rows;      // of a neuron; 1 of a linear layer
  int64_t outliers;  // bytes of a bundle that come before them
  int64_t stride;    // bytes from neuron to neuron
};

inline IntegerLayout layout_of(bool is_int4, int64_t d_model, int64_t rows = 1) {
  const int64_t groups = d_model / kGroupSize, row = is_int4 ? d_model / 2 : d_model;
  const int64_t outliers = rows * (row + 2 * groups);
  return {groups, row, rows, outliers, (outliers + kOutliers * kOutlierBytes + 63) / 64 * 64};
}

struct IntegerRow {
  const uint8_t* values;
  const uint8_t* scales;  // float16
};

// Of a neuron: 0 gate, 1 up, 2 down; or 0 up, 1 down where there is no gate.
inline IntegerRow row_of(const IntegerLayout& layout, const uint8_t* bundle, int64_t which) {
  const uint8_t* scales = bundle + layout.rows * layout.row;
  return {bundle + which * layout.row, scales + which * 2 * layout.groups};
}

inline IntegerRow down_row(const IntegerLayout& layout, const uint8_t* bundle) {
  return row_of(layout, bundle, layout.rows - 1);
}

// Finite float16 to float, by rebiasing the exponent: 2^112 = 2^(127 - 15).
inline float half_to_float(uint16_t half) {
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  float value;
  std::memcpy(&value, &magnitude, sizeof(value));
  value *= 0x1p112f;
  return (half & 0x8000) != 0 ? -value : value;
}

// y[c - begin] += h times the outlier of column c, for a neuron's outliers in columns [begin, end);
// begin = 0 and end = D for a whole row. What is stored may be any number.
inline void add_outliers(const IntegerLayout& layout, const uint8_t* bundle, float h, int64_t begin,
                         int64_t end, float* y) {
  for (int64_t i = 0; i < kOutliers; ++i) {
    uint16_t parts[2];
    std::memcpy(parts, bundle + layout.outliers + i * kOutlierBytes, sizeof(parts));
    if (parts[0] < begin || parts[0] >= end) continue;
    y[parts[0] - begin] += h * half_to_float(parts[1]);
  }
}

// Of a linear layer, whose rows are layout.row + 2 * layout.groups bytes apart.
inline IntegerRow linear_row(const IntegerLayout& layout, const uint8_t* bytes) {
  return {bytes, bytes + layout.row};
}

// Fetches bytes line by line, a few lines at each step of the work that hides it.
class Fetch {
 public:
  Fetch() = default;
  Fetch(const uint8_t* first, int64_t bytes) : next_(first), end_(first + bytes) {}

  void lines(int count) {
    for (; count > 0 && next_ < end_; --count, next_ += 64) fetch(next_);
  }
  void rest() {
    for (; next_ < end_; next_ += 64) fetch(next_);
  }

 private:
  // Into the second level of cache: the first has too few places for lines that are on their way.
  static void fetch(const uint8_t* line) { __builtin_prefetch(line, 0, 2); }

  const uint8_t* next_ = nullptr;
  const uint8_t* end_ = nullptr;
};

}  // namespace
}  // namespace glass::internal
