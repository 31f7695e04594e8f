// Where the parts of an integer bundle lie, and its scales. See docs/adr/0012-integer-bundles.md.
#pragma once

#include <cstdint>
#include <cstring>

#include "glass/ffn.h"

namespace glass::internal {
namespace {

struct IntegerLayout {
  int64_t groups;  // of a row
  int64_t row;     // bytes of a row's integers
  int64_t stride;  // bytes from neuron to neuron
};

inline IntegerLayout layout_of(bool is_int4, int64_t d_model) {
  const int64_t groups = d_model / kGroupSize, row = is_int4 ? d_model / 2 : d_model;
  return {groups, row, (3 * (row + 2 * groups) + 63) / 64 * 64};
}

struct IntegerRow {
  const uint8_t* values;
  const uint8_t* scales;  // float16
};

// Row 0 gate, 1 up, 2 down.
inline IntegerRow row_of(const IntegerLayout& layout, const uint8_t* bundle, int64_t which) {
  return {bundle + which * layout.row, bundle + 3 * layout.row + which * 2 * layout.groups};
}

// Finite float16 to float, by rebiasing the exponent: 2^112 = 2^(127 - 15).
inline float half_to_float(uint16_t half) {
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  float value;
  std::memcpy(&value, &magnitude, sizeof(value));
  value *= 0x1p112f;
  return (half & 0x8000) != 0 ? -value : value;
}

inline float scale_at(const IntegerRow& row, int64_t group) {
  uint16_t half;
  std::memcpy(&half, row.scales + 2 * group, sizeof(half));
  return half_to_float(half);
}

// Fetches a bundle line by line, a few lines at each step of the work that hides it.
class BundleFetch {
 public:
  BundleFetch(const IntegerLayout& layout, const uint8_t* bundle)
      : next_(bundle), end_(bundle == nullptr ? nullptr : bundle + layout.stride) {}

  void lines(int count) {
    for (; count > 0 && next_ < end_; --count, next_ += 64) fetch(next_);
  }
  void rest() {
    for (; next_ < end_; next_ += 64) fetch(next_);
  }

 private:
  // Into the second level of cache: the first has too few places for lines that are on their way.
  static void fetch(const uint8_t* line) { __builtin_prefetch(line, 0, 2); }

  const uint8_t* next_;
  const uint8_t* end_;
};

}  // namespace
}  // namespace glass::internal
