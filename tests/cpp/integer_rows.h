// Rows of random int8 and int4 weights, and tokens as the kernels quantise them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "arrays.h"
#include "glass/ffn.h"

namespace glass::test {

constexpr BundleFormat kFormats[] = {BundleFormat::kInt8, BundleFormat::kInt4};

// Gives a row, whose integers are random bytes, its scales (float16 powers of two of either sign)
// and computes its weights.
inline void fill_row(BundleFormat format, int64_t depth, const uint8_t* values, uint8_t* scales,
                     Random& random, double* weights) {
  const bool is_int4 = format == BundleFormat::kInt4;
  for (int64_t g = 0; g < depth / kGroupSize; ++g) {
    const uint32_t exponent = (is_int4 ? 10u : 6u) + random.next() % 2, sign = random.next() % 2;
    const auto half = static_cast<uint16_t>(exponent << 10 | sign << 15);
    std::memcpy(scales + 2 * g, &half, sizeof(half));
    const double scale = std::ldexp(sign != 0 ? -1.0 : 1.0, static_cast<int>(exponent) - 15);
    const uint8_t* bytes = values + g * (is_int4 ? 16 : 32);
    for (int i = 0; i < 32; ++i) {
      const int nibble = i < 16 ? bytes[i % 16] & 15 : bytes[i % 16] >> 4;
      weights[g * 32 + i] = scale * (is_int4 ? nibble - 8 : bytes[i] - 128);
    }
  }
}

// What the kernels take x for.
inline std::vector<double> quantised(const Floats& x) {
  std::vector<double> out;
  for (size_t first = 0; first < x.size(); first += 32) {
    float largest = 0.0f;
    for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[first + i]));
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    for (size_t i = 0; i < 32; ++i) {
      const float product = x[first + i] * inverse;
      out.push_back(double(std::nearbyint(product)) * double(largest / 127.0f));
    }
  }
  return out;
}

}  // namespace glass::test
