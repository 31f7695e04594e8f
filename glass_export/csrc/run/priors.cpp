#include "run/priors.h"

#include <string>
#include <utility>

namespace glass::run {
namespace {

template <class T>
Span<const T> all(const std::vector<T>& values) {
  return {values.data(), values.size()};
}

template <class T>
Span<T> all(std::vector<T>& values) {
  return {values.data(), values.size()};
}

}  // namespace

Outcome Priors::load(Program& program) {
  for (size_t i = 0; i < scores_.size(); ++i) {
    const std::string method = std::string("get_prior_") + kStatisticNames[i];
    Result<Scores> values = program.constant(method);
    if (!values) return values.failure();
    if (!values->empty() && values->size() != size()) {
      return failure(method, ": got ", values->size(), " values, expected L * F = ", size(),
                     "; export the model again");
    }
    scores_[i] = std::move(*values);
  }
  return Done{};
}

Result<Prior> Priors::of(const SelectionSettings& settings) {
  const Fusion fusion = settings.rule.fusion;
  if (fusion == Fusion::kLocal) return Prior();
  if (Outcome found = require(settings.prior); !found) return found.failure();
  Prior prior(all(scores(settings.prior)));
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

}  // namespace glass::run
