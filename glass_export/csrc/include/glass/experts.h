// A mixture of experts: gated FFNs of one size, of which every token goes through a few.
//
// Legend: S tokens, D model width, E experts, k experts of a token, F width of an expert, K'
// entries of a row of neurons. All arrays are row-major.
#pragma once

#include "glass/base.h"
#include "glass/ffn.h"

namespace glass {

// Where tokens go: the experts of each, index [S,k] in 0..E-1 without repetition, and what their
// outputs are multiplied with, weight [S,k].
struct Routing {
  Span<const int64_t> index;
  Span<const float> weight;
};

// The experts of a layer. `first` is the FFN of expert 0, gated and of width F; the bundles of the
// others follow it without a gap.
struct Experts {
  FfnBundle first;
  int64_t count = 0;  // E
};

// Floats of scratch that sparse_experts needs for `tokens` S on `threads` threads.
size_t sparse_experts_scratch(const Experts& experts, int64_t tokens, int64_t threads);

// y [S,D] = the sum over a token's experts of weight * sparse_ffn of that expert's own neurons.
//
// x [S,D], neurons [E,K']: a row for each expert as check_neurons wants it (checked where the
// expert has tokens). Reads the bundles of the chosen neurons of experts that have tokens, in
// place. kIndexOutOfRange also when `index` names an expert that is not there, or one twice for a
// token.
Status sparse_experts(const Experts& experts, Activation activation, Span<const float> x,
                      const Routing& routing, Span<const int32_t> neurons, Span<float> y,
                      Span<float> scratch, const Parallel& parallel);

// Floats of scratch that dense_experts needs for `tokens` S on `threads` threads.
size_t dense_experts_scratch(const Experts& experts, int64_t tokens, int64_t threads);

// The same with all neurons, and the sums of their local scores over the tokens of each expert,
// abs_sum and sq_sum [E,F]; see dense_ffn. Those of an expert without tokens are 0.
Status dense_experts(const Experts& experts, Activation activation, Span<const float> x,
                     const Routing& routing, Span<const float> score_weights, Span<float> y,
                     Span<float> abs_sum, Span<float> sq_sum, Span<float> scratch,
                     const Parallel& parallel);

}  // namespace glass
