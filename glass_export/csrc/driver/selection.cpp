#include "driver/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "driver/number.h"

namespace glass {
namespace {

// In the order of the enumerations.
constexpr const char* kFusionNames[] = {"borda", "shrinkage", "local", "global"};
constexpr const char* kLocalNames[] = {"A", "griffin", "squared"};
constexpr const char* kLocalTokensNames[] = {"user", "all"};

template <class Enum, size_t kCount>
Outcome assign_name(Enum& target, const char* const (&names)[kCount], std::string_view name,
                    std::string_view value) {
  std::string known;
  for (size_t i = 0; i < kCount; ++i) {
    if (value == names[i]) {
      target = static_cast<Enum>(i);
      return Done{};
    }
    known += std::string(i ? ", " : "") + names[i];
  }
  return failure(name, ": got '", value, "', expected one of ", known);
}

Outcome assign_number(double& target, std::string_view name, std::string_view value, bool positive,
                      double most, const char* expected) {
  const std::optional<double> number = parse_number(value);
  const bool fits = number && (positive ? *number > 0 : *number >= 0) && *number <= most;
  if (!fits) return failure(name, ": got '", value, "', expected ", expected);
  target = *number;
  return Done{};
}

Outcome assign_count(int64_t& target, std::string_view name, std::string_view value,
                     const char* expected) {
  const std::optional<int64_t> number = parse_integer(value);
  if (!number || *number < 0 || *number > std::numeric_limits<int32_t>::max()) {
    return failure(name, ": got '", value, "', expected ", expected);
  }
  target = *number;
  return Done{};
}

Outcome assign_sensitivity(double& target, std::string_view name, std::string_view value) {
  const std::optional<double> number = parse_number(value);
  if (!number || (*number != 0 && *number != 0.25 && *number != 0.5 && *number != 1)) {
    return failure(name, ": got '", value, "', expected 0, 0.25, 0.5 or 1");
  }
  target = *number;
  return Done{};
}

// A number of tokens, "auto" or "off".
Outcome assign_refresh(SelectionSettings& settings, std::string_view name, std::string_view value) {
  settings.refresh_settles = value == "auto";
  if (settings.refresh_settles) {
    settings.refresh = kAutoInterval;
    return Done{};
  }
  return assign_count(settings.refresh, name, value == "off" ? "0" : value,
                      "a whole number of tokens, auto or off");
}

// "none", empty as in metadata, or numbers with commas.
Outcome assign_layers(std::vector<int64_t>& target, std::string_view name, std::string_view value) {
  std::vector<int64_t> layers;
  std::set<int64_t> seen;
  for (std::string_view rest = value == "none" ? "" : value; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const std::optional<int64_t> layer = parse_integer(item);
    if (!layer || *layer < 0 || !seen.insert(*layer).second) {
      return failure(name, ": got '", value,
                     "', expected numbers of layers with commas, each given once, or none");
    }
    layers.push_back(*layer);
  }
  target = std::move(layers);
  return Done{};
}

}  // namespace

Outcome assign(SelectionSettings& settings, std::string_view name, std::string_view value) {
  if (name == "fusion") return assign_name(settings.rule.fusion, kFusionNames, name, value);
  if (name == "local") return assign_name(settings.rule.local, kLocalNames, name, value);
  if (name == "local_tokens" || name == "local-tokens") {
    return assign_name(settings.local_tokens, kLocalTokensNames, name, value);
  }
  if (name == "prior") return assign_name(settings.prior, kStatisticNames, name, value);
  if (name == "density") {
    return assign_number(settings.density, name, value, true, 1,
                         "a number above 0 and at most 1 (the share of FFN neurons to keep)");
  }
  if (name == "lam") {
    return assign_number(settings.rule.lam, name, value, false, 1, "a number from 0 to 1");
  }
  if (name == "tau") {
    return assign_number(settings.rule.tau, name, value, false, std::numeric_limits<double>::max(),
                         "a number of tokens, 0 or more");
  }
  if (name == "sensitivity") return assign_sensitivity(settings.sensitivity, name, value);
  if (name == "dense_layers" || name == "dense-layers") {
    return assign_layers(settings.dense_layers, name, value);
  }
  if (name == "refresh") return assign_refresh(settings, name, value);
  if (name == "dense_start" || name == "dense-start") {
    return assign_count(settings.dense_start, name, value, "a whole number of tokens, 0 or more");
  }
  return failure(
      name, ": not a setting of the selection; expected density, fusion, local, ",
      "local_tokens, prior, lam, tau, sensitivity, dense_layers, refresh or dense_start");
}

int64_t kept_neurons(double density, int64_t d_ff) {
  const double exact = density * static_cast<double>(d_ff);
  const auto rounded = static_cast<int64_t>(std::nearbyint(exact));  // half to even, as Python
  return std::clamp<int64_t>(rounded, 1, d_ff);
}

Result<std::vector<int64_t>> layer_budgets(const SelectionSettings& settings, int64_t layers,
                                           int64_t d_ff) {
  const std::vector<int64_t>& dense = settings.dense_layers;
  for (const int64_t layer : dense) {
    if (layer >= layers) {
      return failure("dense_layers: got ", layer, ", expected layers 0 to ", layers - 1,
                     "; give layers of this model, or none");
    }
  }
  const int64_t kept = kept_neurons(settings.density, d_ff);
  int64_t rest = kept, honoured = 0;
  for (int64_t n = 1; n <= static_cast<int64_t>(dense.size()) && n < layers; ++n) {
    const int64_t left = layers * kept - n * d_ff;
    if (left < 0 || left / (layers - n) < (kept + 1) / 2) break;
    rest = left / (layers - n);
    honoured = n;
  }
  std::vector<int64_t> budgets(static_cast<size_t>(layers), rest);
  for (int64_t i = 0; i < honoured; ++i) {
    budgets[static_cast<size_t>(dense[static_cast<size_t>(i)])] = d_ff;
  }
  return budgets;
}

Outcome check_rule(const SelectionSettings& settings) {
  if (settings.sensitivity > 0 && settings.rule.fusion != Fusion::kShrinkage) {
    return failure("sensitivity: got ", settings.sensitivity, " with fusion '",
                   kFusionNames[static_cast<size_t>(settings.rule.fusion)],
                   "', expected 0; use fusion 'shrinkage', or leave the sensitivity out");
  }
  const LocalForm local = settings.rule.local;
  const Statistic prior = settings.prior;
  const bool paired = (local == LocalForm::kSquared && prior == Statistic::kG) ||
                      (local == LocalForm::kA && prior == Statistic::kA);
  if (settings.rule.fusion != Fusion::kShrinkage || paired) return Done{};
  return failure("shrinkage: got local '", kLocalNames[static_cast<size_t>(local)],
                 "' with prior '", kStatisticNames[static_cast<size_t>(prior)],
                 "', which are on different scales; use local 'squared' with prior 'G', or local ",
                 "'A' with prior 'A'");
}

Failure selection_failure(Status status) {
  switch (status) {
    case Status::kNoScoredToken:
      return failure("local scores: no prompt token was scored, expected at least one; score more ",
                     "tokens, or use the global fusion");
    case Status::kNotFinite:
      return failure("scores: NaN or infinity, expected finite numbers; the prior or the model's ",
                     "weights are damaged: export the model again");
    default:
      return failure("selection: ", status_message(status));
  }
}

}  // namespace glass
