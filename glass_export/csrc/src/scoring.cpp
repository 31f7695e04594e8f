// Compiled without contraction to fused multiply-add: the same bits as NumPy.
#include "glass/scoring.h"

#include <algorithm>
#include <cmath>

#include "internal.h"
#include "keys.h"

namespace glass {
namespace {

using internal::has_size;
using internal::rank_keys;
using internal::top_k_keys;

constexpr double kLambdaOne = 65536.0;  // Borda weights are multiples of 1 / kLambdaOne
constexpr int64_t kMaxBordaWidth = 65536;
constexpr int64_t kMaxRanked = int64_t{1} << 21;

// keys[j] = key of score(j); false when one of them is not finite.
template <class Score>
bool make_keys(int64_t count, const Score& score, uint32_t* keys) {
  bool finite = true;
  for (int64_t j = 0; j < count; ++j) {
    keys[j] = internal::key_of(score(j));
    finite &= internal::is_finite_key(keys[j]);
  }
  return finite;
}

bool is_valid_lambda(double lam) { return lam >= 0.0 && lam <= 1.0; }

uint32_t prior_weight(double lam) {
  return static_cast<uint32_t>(std::floor(lam * kLambdaOne + 0.5));
}

void fuse_ranks(const int32_t* local, const int32_t* prior, int64_t count, double lam,
                uint32_t* fused) {
  const uint32_t weight = prior_weight(lam), rest = 65536u - weight;
  for (int64_t j = 0; j < count; ++j) {
    fused[j] = static_cast<uint32_t>(local[j]) * rest + static_cast<uint32_t>(prior[j]) * weight;
  }
}

bool is_valid_shrinkage(double tokens, double tau) {
  return tokens >= 0.0 && tau >= 0.0 && tokens + tau > 0.0 && std::isfinite(tokens) &&
         std::isfinite(tau);
}

float shrink(float local, double tokens, float prior, double tau) {
  const double weighted = tokens * static_cast<double>(local) + tau * static_cast<double>(prior);
  return static_cast<float>(weighted / (tokens + tau));
}

bool is_valid(LocalForm form) { return form >= LocalForm::kA && form <= LocalForm::kSquared; }

// The local score of neurons [begin, begin + count) as a function of j.
struct LocalScore {
  LocalForm form;
  const float* sums;
  float tokens;

  float operator()(int64_t j) const {
    return form == LocalForm::kGriffin ? std::sqrt(sums[j]) : sums[j] / tokens;
  }
};

const Span<const float>& sums_of(const TokenSums& sums, LocalForm form) {
  return form == LocalForm::kA ? sums.abs_sum : sums.sq_sum;
}

LocalScore local_score(const TokenSums& sums, LocalForm form, int64_t begin) {
  return {form, sums_of(sums, form).data + begin, static_cast<float>(sums.tokens)};
}

// Checks shapes and parameters of select_neurons; see there.
Status check_selection(const TokenSums& sums, const Prior& prior, const Selection& selection,
                       int64_t size) {
  const bool uses_local = selection.fusion != Fusion::kGlobal;
  const bool uses_prior = selection.fusion != Fusion::kLocal;
  if (uses_prior && !has_size(prior.scores, size)) return Status::kInvalidArgument;
  if (prior.ranks.size != 0 && !has_size(prior.ranks, size)) return Status::kInvalidArgument;
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

template <class Local, class Global>
bool borda_keys(const Choice& choice, const Local& local, const Global& global, int64_t begin,
                const LayerScratch& layer) {
  const int32_t* known = choice.prior.ranks.data;
  if (known == nullptr && !make_ranks(global, choice.d_ff, layer, layer.prior_ranks)) return false;
  if (!make_ranks(local, choice.d_ff, layer, layer.local_ranks)) return false;
  fuse_ranks(layer.local_ranks, known == nullptr ? layer.prior_ranks : known + begin, choice.d_ff,
             choice.selection.lam, layer.keys);
  return true;
}

// layer.keys = the fused scores of the layer that begins at `begin`, as keys; false when a score is
// not finite.
bool fuse_layer(const Choice& choice, int64_t begin, const LayerScratch& layer) {
  const TokenSums& sums = choice.sums;
  const auto local = local_score(sums, choice.selection.local, begin);
  const auto global = [&](int64_t j) { return choice.prior.scores.data[begin + j]; };
  switch (choice.selection.fusion) {
    case Fusion::kBorda:
      return borda_keys(choice, local, global, begin, layer);
    case Fusion::kShrinkage: {
      const bool scored = sums.tokens > 0.0;
      const auto fused = [&](int64_t j) {
        return shrink(scored ? local(j) : 0.0f, sums.tokens, global(j), choice.selection.tau);
      };
      return make_keys(choice.d_ff, fused, layer.keys);
    }
    case Fusion::kLocal:
      return make_keys(choice.d_ff, local, layer.keys);
    case Fusion::kGlobal:
      return make_keys(choice.d_ff, global, layer.keys);
  }
  return false;
}

// Layers [part.begin, part.end); `words` is one thread's scratch, whose first word tells whether
// all went well.
void choose_layers(const Choice& choice, internal::Part part, int32_t* neurons, int64_t k,
                   uint32_t* words) {
  const LayerScratch layer = layer_scratch(words + 1, choice.d_ff);
  words[0] = 0;
  for (int64_t l = part.begin; l < part.end; ++l) {
    if (!fuse_layer(choice, l * choice.d_ff, layer)) return;
    top_k_keys(layer.keys, choice.d_ff, layer.spare, {neurons + l * k, static_cast<size_t>(k)});
  }
  words[0] = 1;
}

bool is_valid_choice(size_t scores, Span<int32_t> neurons) {
  return scores > 0 && neurons.data != nullptr && neurons.size > 0 && neurons.size <= scores;
}

}  // namespace

Status local_scores(const TokenSums& sums, LocalForm form, Span<float> scores) {
  const auto size = static_cast<int64_t>(scores.size);
  if (!is_valid(form) || !has_size(scores, size) || !has_size(sums_of(sums, form), size)) {
    return Status::kInvalidArgument;
  }
  if (!(sums.tokens > 0.0)) return Status::kNoScoredToken;
  const LocalScore score = local_score(sums, form, 0);
  for (int64_t j = 0; j < size; ++j) scores[static_cast<size_t>(j)] = score(j);
  return Status::kOk;
}

Status ranks(Span<const float> scores, Span<int32_t> ranks, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (count == 0 || count > kMaxRanked || !has_size(scores, count) || !has_size(ranks, count)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  const auto score = [&](int64_t j) { return scores.data[j]; };
  if (!make_keys(count, score, scratch.data)) return Status::kNotFinite;
  rank_keys(scratch.data, count, scratch.data + count, ranks.data);
  return Status::kOk;
}

Status borda(Span<const int32_t> local_ranks, Span<const int32_t> prior_ranks, double lam,
             Span<uint32_t> fused) {
  const auto count = static_cast<int64_t>(local_ranks.size);
  if (count > kMaxBordaWidth || !is_valid_lambda(lam) || !has_size(local_ranks, count) ||
      !has_size(prior_ranks, count) || !has_size(fused, count)) {
    return Status::kInvalidArgument;
  }
  fuse_ranks(local_ranks.data, prior_ranks.data, count, lam, fused.data);
  return Status::kOk;
}

Status shrinkage(Span<const float> local_mean, double tokens, Span<const float> prior, double tau,
                 Span<float> fused) {
  const auto count = static_cast<int64_t>(local_mean.size);
  if (!is_valid_shrinkage(tokens, tau) || !has_size(local_mean, count) || !has_size(prior, count) ||
      !has_size(fused, count)) {
    return Status::kInvalidArgument;
  }
  for (size_t j = 0; j < fused.size; ++j) fused[j] = shrink(local_mean[j], tokens, prior[j], tau);
  return Status::kOk;
}

Status top_k(Span<const float> scores, Span<int32_t> neurons, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (!has_size(scores, count) || !is_valid_choice(scores.size, neurons)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  const auto score = [&](int64_t j) { return scores.data[j]; };
  if (!make_keys(count, score, scratch.data)) return Status::kNotFinite;
  top_k_keys(scratch.data, count, scratch.data + count, neurons);
  return Status::kOk;
}

Status top_k(Span<const uint32_t> scores, Span<int32_t> neurons, Span<uint32_t> scratch) {
  const auto count = static_cast<int64_t>(scores.size);
  if (!has_size(scores, count) || !is_valid_choice(scores.size, neurons)) {
    return Status::kInvalidArgument;
  }
  if (scratch.size < 2 * scores.size) return Status::kScratchTooSmall;
  top_k_keys(scores.data, count, scratch.data, neurons);
  return Status::kOk;
}

Status prior_ranks(Span<const float> scores, int64_t layers, int64_t d_ff, Span<int32_t> result,
                   Span<uint32_t> scratch) {
  if (layers <= 0 || d_ff <= 0 || !has_size(scores, layers * d_ff) ||
      !has_size(result, layers * d_ff)) {
    return Status::kInvalidArgument;
  }
  const auto width = static_cast<size_t>(d_ff);
  for (int64_t l = 0; l < layers; ++l) {
    const Status status =
        ranks({scores.data + l * d_ff, width}, {result.data + l * d_ff, width}, scratch);
    if (status != Status::kOk) return status;
  }
  return Status::kOk;
}

size_t select_neurons_scratch(int64_t d_ff, int64_t threads) {
  return static_cast<size_t>(threads * (1 + kLayerArrays * d_ff));
}

Status select_neurons(const TokenSums& sums, const Prior& prior, const Selection& selection,
                      int64_t layers, int64_t d_ff, Span<int32_t> neurons, Span<uint32_t> scratch,
                      const Parallel& parallel) {
  if (layers <= 0 || d_ff <= 0 || neurons.data == nullptr || !internal::is_valid(parallel)) {
    return Status::kInvalidArgument;
  }
  const auto size = static_cast<int64_t>(neurons.size), k = size / layers;
  if (k * layers != size || k == 0 || k > d_ff) return Status::kInvalidArgument;
  if (selection.fusion == Fusion::kBorda && d_ff > kMaxBordaWidth) return Status::kInvalidArgument;
  const Status checked = check_selection(sums, prior, selection, layers * d_ff);
  if (checked != Status::kOk) return checked;
  const int64_t threads = std::min(parallel.threads, layers);
  if (scratch.size < select_neurons_scratch(d_ff, threads)) return Status::kScratchTooSmall;
  const Choice choice{sums, prior, selection, d_ff};
  const auto words = static_cast<int64_t>(select_neurons_scratch(d_ff));
  internal::parallel_for(parallel, threads, [&](int64_t i) {
    choose_layers(choice, internal::part_of(layers, threads, i), neurons.data, k,
                  scratch.data + i * words);
  });
  for (int64_t i = 0; i < threads; ++i) {
    if (scratch.data[i * words] == 0) return Status::kNotFinite;
  }
  return Status::kOk;
}

}  // namespace glass
