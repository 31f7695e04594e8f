// Checks that both forms of the FFN share.
#pragma once

#include "glass/ffn.h"
#include "internal.h"

namespace glass::internal {

inline bool is_valid(const FfnBundle& ffn) {
  return ffn.data != nullptr && ffn.d_ff > 0 && ffn.d_model > 0;
}

inline bool is_valid(Activation activation) {
  return activation >= Activation::kSilu && activation <= Activation::kRelu;
}

// x and y are [S,D] with the same S >= 1.
inline bool are_tokens(const FfnBundle& ffn, Span<const float> x, Span<float> y) {
  const auto size = static_cast<int64_t>(x.size);
  return size > 0 && size % ffn.d_model == 0 && has_size(x, size) && has_size(y, size);
}

}  // namespace glass::internal
