// A stretch of a text.
#pragma once

#include <cstddef>

namespace glass {

// Bytes start..stop-1.
struct Range {
  size_t start, stop;
};

}  // namespace glass
