// Sums of activations over scored tokens.
//
// Legend: L layers, F FFN width.
#pragma once

#include <cstddef>
#include <vector>

#include "driver/backend.h"
#include "glass/scoring.h"

namespace glass {

// Sums over scored tokens, of which every local score is made.
struct LocalSums {
  std::vector<float> abs_sum;  // [L,F]
  std::vector<float> sq_sum;   // [L,F]
  double tokens = 0;

  explicit LocalSums(size_t neurons) : abs_sum(neurons), sq_sum(neurons) {}

  // Adds those of a prefill call in which `scored` tokens counted.
  void add(const PrefillViews& views, double scored);

  // Adds those of other calls, which may be of no neurons when no token counted.
  void add(const LocalSums& other);

  TokenSums view() const;
};

}  // namespace glass
