// How much longer a tokenizer may make a text.
#pragma once

#include <algorithm>
#include <cstddef>

#include "driver/limits.h"
#include "driver/status.h"

namespace glass {

// Adds a step that makes at most `factor` bytes of one to those before it. Fails when they make
// more than kMostTextGrowth together.
inline Outcome grow(size_t& growth, size_t factor) {
  growth *= std::min(std::max<size_t>(factor, 1), kMostTextGrowth + 1);
  if (growth <= kMostTextGrowth) return Done{};
  return failure("its steps make a text more than ", kMostTextGrowth, " times as long");
}

}  // namespace glass
