// Which neurons to keep: the same results, bit by bit, as glass_export/scoring.py, whose docstring
// defines them. Golden vectors for both: tests/golden/scoring.json.
//
// Legend: L layers, F FFN width, K kept neurons, T scored tokens; F and G are also two statistics
// of the null text. Arrays [L,F] are row-major.
#pragma once

#include "glass/base.h"

namespace glass {

// Orders are part of the ABI: those of glass_export.recipe.Fusion and LocalForm.
enum class Fusion : int32_t { kBorda = 0, kShrinkage = 1, kLocal = 2, kGlobal = 3 };
enum class LocalForm : int32_t { kA = 0, kGriffin = 1, kSquared = 2 };

// The sums over a prompt's scored tokens; see dense_ffn.
struct TokenSums {
  Span<const float> abs_sum;  // [L,F]
  Span<const float> sq_sum;   // [L,F]
  double tokens = 0;          // T, the sum of the score weights
};

struct Selection {
  Fusion fusion = Fusion::kBorda;
  LocalForm local = LocalForm::kA;
  double lam = 0.5;    // Borda: weight of the prior, 0 to 1
  double tau = 128.0;  // shrinkage: weight of the prior, in tokens
};

// What is known of the neurons before any prompt. `scores` [L,F] may be empty for Fusion::kLocal;
// `ranks` [L,F], as prior_ranks() makes them, saves Borda half of its work and may be empty.
// `weights` [L,F], as sensitivity_weights() makes them, are for Fusion::kShrinkage alone, whose
// mean is multiplied with them; empty for sensitivity 0.
struct Prior {
  Span<const float> scores;
  Span<const int32_t> ranks;
  Span<const double> weights;
  // Of a mixture of experts: the layers are rows, one an expert, and T of each is what its sq_sum
  // add up to. `scores` are then needed for every fusion.
  bool routed = false;

  Prior() = default;
  Prior(Span<const float> all_scores, Span<const int32_t> all_ranks = {},
        Span<const double> all_weights = {})
      : scores(all_scores), ranks(all_ranks), weights(all_weights) {}
};

// Local scores [L,F] of a form. kNoScoredToken when T is 0.
Status local_scores(const TokenSums& sums, LocalForm form, Span<float> scores);

// Rank of every neuron of one layer, 0..F-1; larger is more important, ties to the lower index.
// scores [F] finite, ranks [F], F up to 2^21; scratch 2 F uint32.
Status ranks(Span<const float> scores, Span<int32_t> ranks, Span<uint32_t> scratch);

// fused [F] = (65536 - w) local + w prior with w = floor(lam * 65536 + 0.5); F <= 65536.
Status borda(Span<const int32_t> local_ranks, Span<const int32_t> prior_ranks, double lam,
             Span<uint32_t> fused);

// fused [F] = (T local + tau prior) / (T + tau), times weights unless they are empty, in double
// without fused multiply-add, rounded once.
Status shrinkage(Span<const float> local_mean, double tokens, Span<const float> prior, double tau,
                 Span<float> fused, Span<const double> weights = {});

// weights = (F / G)^sensitivity, 0 where G is 0, by square roots in double; effect is F, activity
// G, both of any shape. sensitivity is 0.25, 0.5 or 1. kNotFinite when a value is negative, too.
Status sensitivity_weights(Span<const float> effect, Span<const float> activity, double sensitivity,
                           Span<double> weights);

// The K largest of one layer, ties to the lower index: neurons [K] ascending, K = neurons.size.
// scratch 2 F uint32.
Status top_k(Span<const float> scores, Span<int32_t> neurons, Span<uint32_t> scratch);
Status top_k(Span<const uint32_t> scores, Span<int32_t> neurons, Span<uint32_t> scratch);

// ranks() of every layer: scores and ranks [L,F]; scratch 2 F uint32.
Status prior_ranks(Span<const float> scores, int64_t layers, int64_t d_ff, Span<int32_t> ranks,
                   Span<uint32_t> scratch);

// uint32 words of scratch that select_neurons needs on `threads` threads.
size_t select_neurons_scratch(int64_t d_ff, int64_t threads = 1);

// The whole choice: neurons [L,K] for a prompt; threads share the layers. budgets [L]: how many
// each layer keeps, 1 to K, the rest of its row being kNeuronPadding; empty for K in every layer.
// With T = 0 shrinkage keeps the prior alone, as the reference does; so does every fusion in the
// row of an expert without tokens.
Status select_neurons(const TokenSums& sums, const Prior& prior, const Selection& selection,
                      int64_t layers, int64_t d_ff, Span<int32_t> neurons, Span<uint32_t> scratch,
                      const Parallel& parallel = serial(), Span<const int64_t> budgets = {});

}  // namespace glass
