// Mask refresh: when neurons are chosen again while answering, and from which statistics. As
// glass_export/runtime/refresh.py.
//
// Legend: L layers, F FFN width.
#pragma once

#include <cstdint>
#include <vector>

#include "glass/scoring.h"
#include "run/program.h"
#include "run/selection.h"

namespace glass::run {

// Sums over scored tokens, of which every local score is made.
struct LocalSums {
  std::vector<float> abs_sum;  // [L,F]
  std::vector<float> sq_sum;   // [L,F]
  double tokens = 0;

  explicit LocalSums(size_t neurons) : abs_sum(neurons), sq_sum(neurons) {}

  // Adds those of a prefill call in which `scored` tokens counted.
  void add(const PrefillViews& views, double scored);

  TokenSums view() const;
};

// The refreshes of one answer.
class Refresh {
 public:
  // Begins after the first choice, which was made of the prompt's sums.
  Refresh(const SelectionSettings& settings, const LocalSums& prompt);

  // Whether the next token is to be computed by a refresh.
  bool due() const { return interval_ > 0 && static_cast<int64_t>(tokens_.size()) >= interval_; }

  // Notes a token that was decoded.
  void decoded(int64_t token) { tokens_.push_back(token); }

  // Notes that the tokens decoded so far were computed again and neurons chosen.
  void chosen();

  const SelectionSettings& settings() const { return settings_; }

  // Those decoded since the last choice.
  const std::vector<int64_t>& tokens() const { return tokens_; }

  // Over the prompt's scored tokens and the answer's that were refreshed.
  LocalSums& sums() { return sums_; }

 private:
  SelectionSettings settings_;
  LocalSums sums_;
  std::vector<int64_t> tokens_;
  int64_t interval_;  // tokens decoded before the next refresh; 0: there is none
};

}  // namespace glass::run
