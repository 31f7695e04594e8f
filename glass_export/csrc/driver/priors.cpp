#include "driver/priors.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "driver/safetensors.h"
#include "driver/span.h"

namespace glass {

Outcome Priors::load(const std::string& path, const std::vector<std::string>& statistics) {
  auto tensors = read_safetensors(path);
  if (!tensors) return tensors.failure();
  for (size_t i = 0; i < scores_.size(); ++i) {
    const std::string name = kStatisticNames[i];
    if (std::find(statistics.begin(), statistics.end(), name) == statistics.end()) continue;
    FloatTensor& tensor = (*tensors)[name];
    if (tensor.shape != std::vector<int64_t>{layers_, d_ff_}) {
      return failure(path, ": '", name, "' is missing or not float32 [", layers_, ",", d_ff_,
                     "] (layers, neurons)", kCopyAgain)
          .as(ArtifactCode::kPrior);
    }
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(tensor.values.begin(), tensor.values.end(), finite)) {
      return failure(path, ": '", name, "' holds NaN or infinite values; export again")
          .as(ArtifactCode::kPrior);
    }
    scores_[i] = std::move(tensor.values);
  }
  return Done{};
}

Result<Prior> Priors::of(const SelectionSettings& settings) {
  const Fusion fusion = settings.rule.fusion;
  if (fusion == Fusion::kLocal && !routed_) return Prior();
  if (Outcome found = require(settings.prior); !found) return found.failure();
  Prior prior(all(scores(settings.prior)));
  prior.routed = routed_;
  if (fusion == Fusion::kBorda) {
    if (Outcome ranked = rank(settings.prior); !ranked) return ranked.failure();
    prior.ranks = all(std::as_const(ranks_[static_cast<size_t>(settings.prior)]));
  }
  if (settings.sensitivity > 0) {
    if (Outcome weighed = weigh(settings.sensitivity); !weighed) return weighed.failure();
    prior.weights = all(std::as_const(weights_));
  }
  return prior;
}

Outcome Priors::require(Statistic statistic) const {
  if (!scores(statistic).empty()) return Done{};
  return failure("prior: '", kStatisticNames[static_cast<size_t>(statistic)],
                 "' is not in the artifact; choose another one, or the local fusion");
}

Outcome Priors::rank(Statistic statistic) {
  std::vector<int32_t>& ranks = ranks_[static_cast<size_t>(statistic)];
  if (!ranks.empty()) return Done{};
  std::vector<int32_t> result(size());
  std::vector<uint32_t> scratch(2 * static_cast<size_t>(d_ff_));
  const Status status =
      prior_ranks(all(scores(statistic)), layers_, d_ff_, all(result), all(scratch));
  if (status != Status::kOk) return selection_failure(status);
  ranks = std::move(result);
  return Done{};
}

Outcome Priors::weigh(double sensitivity) {
  if (sensitivity_ == sensitivity) return Done{};
  for (const Statistic statistic : {Statistic::kF, Statistic::kG}) {
    if (Outcome found = require(statistic); !found) return found;
  }
  sensitivity_ = 0;  // until it has succeeded
  weights_.resize(size());
  const Status status = sensitivity_weights(all(scores(Statistic::kF)), all(scores(Statistic::kG)),
                                            sensitivity, all(weights_));
  if (status != Status::kOk) return selection_failure(status);
  sensitivity_ = sensitivity;
  return Done{};
}

}  // namespace glass
