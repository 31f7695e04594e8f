// The feed-forward network, gated or plain, stored once, neuron by neuron.
//
// Legend: S tokens, D model width, F FFN width, K kept neurons, K' entries of a row that holds
// them. All arrays are row-major float32, but for bundles of integers. y = h down^T with h in R^F:
// act(x gate^T) * (x up^T) of a gated FFN, act(x up^T + bias) of a plain one.
#pragma once

#include "glass/base.h"

namespace glass {

// Values are part of the operators' ABI; the order is that of glass_export.spec.Activation.
enum class Activation : int32_t { kSilu = 0, kGelu = 1, kGeluTanh = 2, kRelu = 3 };

// How weights are stored. kInt8 and kInt4 are symmetric with a float16 scale for each kGroupSize
// weights of a row; docs/adr/0012-integer-bundles.md gives the bytes and
// glass_export/bundles.py computes them. Values are part of the operators' ABI.
enum class BundleFormat : int32_t { kFloat32 = 0, kInt8 = 1, kInt4 = 2 };

// Consecutive weights of a row that share a scale; D is a multiple of it in integer formats.
constexpr int64_t kGroupSize = 32;

// Weights of a neuron's down row that integer formats store apart from its groups, and bytes of
// one: its column (uint16) and the weight (float16).
constexpr int64_t kOutliers = 1;
constexpr int64_t kOutlierBytes = 4;

// The weights of one layer [F,3,D]: gate, up and down row of neuron 0, then those of neuron 1, ...
// A plain FFN has no gate rows, [F,2,D], and may have a bias. In integer formats [F,bundle_bytes()]
// bytes; a start at a cache line is fastest.
struct FfnBundle {
  const void* data = nullptr;
  int64_t d_ff = 0;     // F
  int64_t d_model = 0;  // D
  BundleFormat format = BundleFormat::kFloat32;
  bool gated = true;
  const float* bias = nullptr;  // [F] or null; of a plain FFN
};

// Rows of a neuron's bundle; the last one is that of down.
int64_t bundle_rows(bool gated);

// Bytes of one neuron's bundle, padding included.
int64_t bundle_bytes(BundleFormat format, int64_t d_model, bool gated = true);

// The integer format whose bundles for D have so many bytes; false when there is none.
bool bundle_format(int64_t bytes, int64_t d_model, BundleFormat& format, bool gated = true);

// The neurons [K] of a row [K'], without the padding (kNeuronPadding) at its end. Where padding
// precedes an index, which check_neurons refuses, the row as it is.
Span<const int32_t> without_padding(Span<const int32_t> neurons);

// kOk when the row `neurons` [K'] can be passed to sparse_ffn: at least one neuron, ascending, no
// repetition, all in [0, F), then nothing but padding.
Status check_neurons(Span<const int32_t> neurons, int64_t d_ff);

// Floats of scratch that sparse_ffn needs for `tokens` S on `threads` threads.
size_t sparse_ffn_scratch(const FfnBundle& ffn, int64_t tokens, int64_t threads);

// y [S,D] = FFN of the chosen neurons alone; reads exactly their bundles, in place.
//
// x [S,D], neurons [K'] as check_neurons wants them (checked), 1 <= K <= F. K = F is the dense FFN;
// padding costs nothing and changes no bit.
// With integer weights x is quantised to int8, with a scale for each kGroupSize values of a token.
Status sparse_ffn(const FfnBundle& ffn, Activation activation, Span<const float> x,
                  Span<const int32_t> neurons, Span<float> y, Span<float> scratch,
                  const Parallel& parallel);

// Floats of scratch that dense_ffn needs for `tokens` S on `threads` threads.
size_t dense_ffn_scratch(const FfnBundle& ffn, int64_t tokens, int64_t threads);

// y [S,D] = FFN of all neurons, and the sums of the local scores over the tokens:
// with u_t = h_t / ||h_t||_2 (0 where h_t is 0) and m_t = score_weights[t],
// abs_sum [F] = sum_t m_t |u_t| and sq_sum [F] = sum_t m_t u_t^2 (GLASS, arXiv 2508.14302).
//
// x [S,D], score_weights [S]. With integer weights x is quantised as in sparse_ffn.
Status dense_ffn(const FfnBundle& ffn, Activation activation, Span<const float> x,
                 Span<const float> score_weights, Span<float> y, Span<float> abs_sum,
                 Span<float> sq_sum, Span<float> scratch, const Parallel& parallel);

}  // namespace glass
