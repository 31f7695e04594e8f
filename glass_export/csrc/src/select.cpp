// The whole choice of neurons. Compiled without contraction: see scores.h.
#include <algorithm>
#include <cmath>

#include "glass/scoring.h"
#include "internal.h"
#include "keys.h"
#include "scores.h"

namespace glass {
namespace {

using internal::fuse_ranks;
using internal::has_size;
using internal::is_valid;
using internal::is_valid_lambda;
using internal::is_valid_shrinkage;
using internal::kMaxBordaWidth;
using internal::local_score;
using internal::make_keys;
using internal::rank_keys;
using internal::shrink;
using internal::sums_of;
using internal::top_k_keys;

// Checks shapes and parameters of select_neurons; see there.
Status check_selection(const TokenSums& sums, const Prior& prior, const Selection& selection,
                       int64_t size) {
  const bool uses_local = selection.fusion != Fusion::kGlobal;
  const bool uses_prior = selection.fusion != Fusion::kLocal || prior.routed;
  if (prior.routed && !has_size(sums.sq_sum, size)) return Status::kInvalidArgument;
  if (uses_prior && !has_size(prior.scores, size)) return Status::kInvalidArgument;
  if (prior.ranks.size != 0 && !has_size(prior.ranks, size)) return Status::kInvalidArgument;
  if (prior.weights.size != 0 &&
      (selection.fusion != Fusion::kShrinkage || !has_size(prior.weights, size))) {
    return Status::kInvalidArgument;
  }
  if (uses_local &&
      (!is_valid(selection.local) || !has_size(sums_of(sums, selection.local), size))) {
    return Status::kInvalidArgument;
  }
  switch (selection.fusion) {
    case Fusion::kBorda:
      if (!is_valid_lambda(selection.lam)) return Status::kInvalidArgument;
      return sums.tokens > 0.0 ? Status::kOk : Status::kNoScoredToken;
    case Fusion::kLocal:
      return sums.tokens > 0.0 ? Status::kOk : Status::kNoScoredToken;
    case Fusion::kShrinkage:
      return is_valid_shrinkage(sums.tokens, selection.tau) ? Status::kOk
                                                            : Status::kInvalidArgument;
    case Fusion::kGlobal:
      return Status::kOk;
  }
  return Status::kInvalidArgument;
}

// The arrays of one layer, each of F words.
struct LayerScratch {
  uint32_t* keys;
  uint32_t* spare;
  int32_t* local_ranks;
  int32_t* prior_ranks;
};

constexpr int64_t kLayerArrays = 4;

LayerScratch layer_scratch(uint32_t* words, int64_t d_ff) {
  return {words, words + d_ff, reinterpret_cast<int32_t*>(words + 2 * d_ff),
          reinterpret_cast<int32_t*>(words + 3 * d_ff)};
}

// A choice for all layers.
struct Choice {
  const TokenSums& sums;
  const Prior& prior;
  const Selection& selection;
  int64_t d_ff;
};

template <class Score>
bool make_ranks(const Score& score, int64_t d_ff, const LayerScratch& layer, int32_t* ranks) {
  if (!make_keys(d_ff, score, layer.keys)) return false;
  rank_keys(layer.keys, d_ff, layer.spare, ranks);
  return true;
}

// Tokens of the row that begins at `begin`: squares of unit vectors add up to 1 a token.
double row_tokens(const Choice& choice, int64_t begin) {
  if (!choice.prior.routed) return choice.sums.tokens;
  double sum = 0.0;
  for (int64_t j = 0; j < choice.d_ff; ++j) {
    sum += static_cast<double>(choice.sums.sq_sum.data[begin + j]);
  }
  return std::nearbyint(sum);
}

// Ranks of the prompt and of the prior; where one says nothing the other stands for it.
template <class Local, class Global>
bool borda_keys(const Choice& choice, const Local& local, const Global& global, int64_t begin,
                bool scored, const LayerScratch& layer) {
  const int32_t* known = choice.prior.ranks.data;
  if (known == nullptr && !make_ranks(global, choice.d_ff, layer, layer.prior_ranks)) return false;
  const int32_t* prior = known == nullptr ? layer.prior_ranks : known + begin;
  if (scored && !make_ranks(local, choice.d_ff, layer, layer.local_ranks)) return false;
  const int32_t* const own = scored ? layer.local_ranks : prior;
  if (choice.prior.routed) {
    const float* const scores = choice.prior.scores.data + begin;
    if (std::count(scores, scores + choice.d_ff, scores[0]) == choice.d_ff) prior = own;
  }
  fuse_ranks(own, prior, choice.d_ff, choice.selection.lam, layer.keys);
  return true;
}

// layer.keys = the fused scores of the layer that begins at `begin`, as keys; false when a score is
// not finite.
bool fuse_layer(const Choice& choice, int64_t begin, const LayerScratch& layer) {
  const TokenSums& sums = choice.sums;
  const double tokens = row_tokens(choice, begin);
  const bool scored = tokens > 0.0;
  const TokenSums row{sums.abs_sum, sums.sq_sum, tokens};
  const auto local = local_score(row, choice.selection.local, begin);
  const auto global = [&](int64_t j) { return choice.prior.scores.data[begin + j]; };
  switch (choice.selection.fusion) {
    case Fusion::kBorda:
      return borda_keys(choice, local, global, begin, scored, layer);
    case Fusion::kShrinkage: {
      // Without tokens any weight is the prior alone.
      const double tau = tokens + choice.selection.tau > 0.0 ? choice.selection.tau : 1.0;
      const double* weights = choice.prior.weights.size == 0 ? nullptr : choice.prior.weights.data;
      const auto fused = [&](int64_t j) {
        return shrink(scored ? local(j) : 0.0f, tokens, global(j), tau,
                      weights == nullptr ? 1.0 : weights[begin + j]);
      };
      return make_keys(choice.d_ff, fused, layer.keys);
    }
    case Fusion::kLocal:
      if (scored) return make_keys(choice.d_ff, local, layer.keys);
      return make_keys(choice.d_ff, global, layer.keys);
    case Fusion::kGlobal:
      return make_keys(choice.d_ff, global, layer.keys);
  }
  return false;
}

// Rows [L,K] of neurons, and how many of each are kept.
struct Rows {
  int32_t* neurons;
  int64_t width;           // K
  const int64_t* budgets;  // [L]; null: K in every layer

  int64_t kept(int64_t layer) const { return budgets == nullptr ? width : budgets[layer]; }
};

// Layers [part.begin, part.end); `words` is one thread's scratch, whose first word tells whether
// all went well.
void choose_layers(const Choice& choice, internal::Part part, const Rows& rows, uint32_t* words) {
  const LayerScratch layer = layer_scratch(words + 1, choice.d_ff);
  words[0] = 0;
  for (int64_t l = part.begin; l < part.end; ++l) {
    if (!fuse_layer(choice, l * choice.d_ff, layer)) return;
    int32_t* row = rows.neurons + l * rows.width;
    const int64_t kept = rows.kept(l);
    top_k_keys(layer.keys, choice.d_ff, layer.spare, {row, static_cast<size_t>(kept)});
    std::fill(row + kept, row + rows.width, kNeuronPadding);
  }
  words[0] = 1;
}

bool are_budgets(Span<const int64_t> budgets, int64_t layers, int64_t most) {
  if (budgets.size == 0) return true;
  return has_size(budgets, layers) && std::all_of(budgets.begin(), budgets.end(),
                                                  [&](int64_t k) { return k >= 1 && k <= most; });
}

}  // namespace

size_t select_neurons_scratch(int64_t d_ff, int64_t threads) {
  return static_cast<size_t>(threads * (1 + kLayerArrays * d_ff));
}

Status select_neurons(const TokenSums& sums, const Prior& prior, const Selection& selection,
                      int64_t layers, int64_t d_ff, Span<int32_t> neurons, Span<uint32_t> scratch,
                      const Parallel& parallel, Span<const int64_t> budgets) {
  if (layers <= 0 || d_ff <= 0 || neurons.data == nullptr || !internal::is_valid(parallel)) {
    return Status::kInvalidArgument;
  }
  const auto size = static_cast<int64_t>(neurons.size), k = size / layers;
  if (k * layers != size || k == 0 || k > d_ff || !are_budgets(budgets, layers, k)) {
    return Status::kInvalidArgument;
  }
  if (selection.fusion == Fusion::kBorda && d_ff > kMaxBordaWidth) return Status::kInvalidArgument;
  const Status checked = check_selection(sums, prior, selection, layers * d_ff);
  if (checked != Status::kOk) return checked;
  const int64_t threads = std::min(parallel.threads, layers);
  if (scratch.size < select_neurons_scratch(d_ff, threads)) return Status::kScratchTooSmall;
  const Choice choice{sums, prior, selection, d_ff};
  const Rows rows{neurons.data, k, budgets.size == 0 ? nullptr : budgets.data};
  const auto words = static_cast<int64_t>(select_neurons_scratch(d_ff));
  internal::parallel_for(parallel, threads, [&](int64_t i) {
    choose_layers(choice, internal::part_of(layers, threads, i), rows, scratch.data + i * words);
  });
  for (int64_t i = 0; i < threads; ++i) {
    if (scratch.data[i * words] == 0) return Status::kNotFinite;
  }
  return Status::kOk;
}

}  // namespace glass
