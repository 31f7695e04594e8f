// Mask refresh: when neurons are chosen again while answering, and from which statistics. As
// glass_export/runtime/refresh.py.
//
// Legend: L layers, F FFN width, K kept neurons of the layer that keeps most. The rows of others
// end in kNeuronPadding.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/local_sums.h"
#include "driver/selection.h"
#include "glass/scoring.h"

namespace glass {

// New neurons of 10,000 chosen ones below which a choice has settled, for "auto". As AUTO_TURNOVER
// in glass_export/runtime/refresh.py.
inline constexpr int64_t kAutoTurnover = 500;

// Whether few of the neurons `now` were not chosen `before`. Shape: [L,K] both, L = layers, rows
// ascending.
bool settled(Span<const int32_t> before, Span<const int32_t> now, int64_t layers);

// The refreshes of one answer.
class Refresh {
 public:
  // Begins after the first choice, `neurons` [L,K] with L = layers, which was made of the prompt's
  // sums; a dense start does not use it, so that the refresh at its end replaces none.
  Refresh(const SelectionSettings& settings, const LocalSums& prompt, std::vector<int32_t> neurons,
          int64_t layers);

  // Whether the next token is to be computed by a refresh.
  bool due() const { return interval_ > 0 && static_cast<int64_t>(tokens_.size()) >= interval_; }

  // Notes a token that was decoded.
  void decoded(int64_t token) { tokens_.push_back(token); }

  // Notes that the tokens decoded so far were computed again and neurons [L,K] chosen.
  void chosen(std::vector<int32_t> neurons);

  const SelectionSettings& settings() const { return settings_; }

  // Those decoded since the last choice.
  const std::vector<int64_t>& tokens() const { return tokens_; }

  // Over the prompt's scored tokens and the answer's that were refreshed.
  LocalSums& sums() { return sums_; }

 private:
  SelectionSettings settings_;
  LocalSums sums_;
  std::vector<int64_t> tokens_;
  std::vector<int32_t> neurons_;  // [L,K] the latest choice that was used; empty if none was
  int64_t layers_;
  int64_t interval_;  // tokens decoded before the next refresh; 0: there is none
};

}  // namespace glass
