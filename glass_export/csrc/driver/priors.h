// The global priors of an artifact. As Priors in glass_export/fusion.py.
//
// Legend: L layers, F FFN width; F and G are also two of the priors.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "driver/selection.h"
#include "driver/status.h"
#include "glass/scoring.h"

namespace glass {

class Priors {
 public:
  // `routed`: of a mixture of experts, whose rows L are experts.
  Priors(int64_t layers, int64_t d_ff, bool routed = false)
      : layers_(layers), d_ff_(d_ff), routed_(routed) {}

  // Reads a prior.safetensors. Fails when one of `statistics` is missing, not float32 [L,F], or
  // holds NaN or infinity.
  Outcome load(const std::string& path, const std::vector<std::string>& statistics);

  // What a choice of neurons needs, valid until the next call; ranks and weights are computed when
  // they are first needed. Fails when a prior is not in the artifact or damaged.
  Result<Prior> of(const SelectionSettings& settings);

 private:
  using Scores = std::vector<float>;

  size_t size() const { return static_cast<size_t>(layers_ * d_ff_); }
  Outcome require(Statistic statistic) const;
  const Scores& scores(Statistic statistic) const {
    return scores_[static_cast<size_t>(statistic)];
  }
  Outcome rank(Statistic statistic);
  Outcome weigh(double sensitivity);

  int64_t layers_;
  int64_t d_ff_;
  bool routed_;
  std::array<Scores, 4> scores_;               // [L,F] by Statistic; empty when not in the artifact
  std::array<std::vector<int32_t>, 4> ranks_;  // of scores_
  double sensitivity_ = 0;                     // of weights_
  std::vector<double> weights_;                // [L,F]
};

}  // namespace glass
