#include "run/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "run/number.h"

namespace glass::run {
namespace {

// In the order of the enumerations.
constexpr const char* kFusionNames[] = {"borda", "shrinkage", "local", "global"};
constexpr const char* kLocalNames[] = {"A", "griffin", "squared"};

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

}  // namespace

Outcome assign(SelectionSettings& settings, std::string_view name, std::string_view value) {
  if (name == "fusion") return assign_name(settings.rule.fusion, kFusionNames, name, value);
  if (name == "local") return assign_name(settings.rule.local, kLocalNames, name, value);
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
  if (name == "refresh") {
    return assign_count(settings.refresh, name, value == "off" ? "0" : value,
                        "a whole number of tokens, or off");
  }
  if (name == "dense_start" || name == "dense-start") {
    return assign_count(settings.dense_start, name, value, "a whole number of tokens, 0 or more");
  }
  return failure(name, ": not a setting of the selection; expected density, fusion, local, prior, ",
                 "lam, tau, refresh or dense_start");
}

int64_t kept_neurons(double density, int64_t d_ff) {
  const double exact = density * static_cast<double>(d_ff);
  const auto rounded = static_cast<int64_t>(std::nearbyint(exact));  // half to even, as Python
  return std::clamp<int64_t>(rounded, 1, d_ff);
}

Outcome check_scales(const SelectionSettings& settings) {
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

}  // namespace glass::run
