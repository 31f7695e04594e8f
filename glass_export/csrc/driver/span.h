// Spans over vectors.
#pragma once

#include <algorithm>
#include <vector>

#include "glass/base.h"

namespace glass {

template <class T>
Span<const T> all(const std::vector<T>& values) {
  return {values.data(), values.size()};
}

template <class T>
Span<T> all(std::vector<T>& values) {
  return {values.data(), values.size()};
}

// Up to `count` elements from index `start` on.
template <class T>
Span<T> part(Span<T> whole, size_t start, size_t count) {
  return {whole.data + start, std::min(count, whole.size - start)};
}

}  // namespace glass
