// Checks that both forms of the FFN share.
#pragma once

#include "glass/ffn.h"
#include "internal.h"
#include "quantised.h"

namespace glass::internal {

inline bool is_valid(const FfnBundle& ffn) {
  if (ffn.data == nullptr || ffn.d_ff <= 0 || ffn.d_model <= 0) return false;
  if (ffn.gated && ffn.bias != nullptr) return false;
  if (ffn.format == BundleFormat::kFloat32) return true;
  return is_integer(ffn.format) && ffn.d_model % kGroupSize == 0;
}

inline bool is_valid(Activation activation) {
  return activation >= Activation::kSilu && activation <= Activation::kRelu;
}

// x and y are [S,D] with the same S >= 1.
inline bool are_tokens(const FfnBundle& ffn, Span<const float> x, Span<float> y) {
  const auto size = static_cast<int64_t>(x.size);
  return size > 0 && size % ffn.d_model == 0 && has_size(x, size) && has_size(y, size);
}

inline bool is_float(const FfnBundle& ffn) { return ffn.format == BundleFormat::kFloat32; }

// Float32 bundles from `neuron` on.
inline const float* float_bundles(const FfnBundle& ffn, int64_t neuron = 0) {
  return static_cast<const float*>(ffn.data) + neuron * bundle_rows(ffn.gated) * ffn.d_model;
}

// The same of integer formats.
inline const uint8_t* integer_bundles(const FfnBundle& ffn, int64_t neuron = 0) {
  const int64_t bytes = bundle_bytes(ffn.format, ffn.d_model, ffn.gated);
  return static_cast<const uint8_t*>(ffn.data) + neuron * bytes;
}

// Biases from `neuron` on; null where there are none.
inline const float* biases(const FfnBundle& ffn, int64_t neuron) {
  return ffn.bias == nullptr ? nullptr : ffn.bias + neuron;
}

}  // namespace glass::internal
