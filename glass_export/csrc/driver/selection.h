// How neurons are chosen: the artifact's defaults, and what the user sets instead.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "driver/status.h"
#include "glass/scoring.h"

namespace glass {

// Which statistic of the null text serves as the prior; the order is that of kStatisticNames.
enum class Statistic { kA, kI, kG, kF };
inline constexpr const char* kStatisticNames[] = {"A", "I", "G", "F"};

// Which tokens of the prompt the local scores cover: all but special ones, or all of them.
enum class LocalTokens { kUser, kAll };

// Tokens between two refreshes of "auto". As AUTO_INTERVAL in glass_export/runtime/refresh.py.
inline constexpr int64_t kAutoInterval = 32;

// The run-time choice, field by field as glass_export.recipe.SelectionRecipe.
struct SelectionSettings {
  double density = 0.5;  // share of the FFN neurons that are kept; 1 is the dense model
  Statistic prior = Statistic::kA;
  Selection rule;
  LocalTokens local_tokens = LocalTokens::kUser;
  double sensitivity = 0;             // power of F / G in shrinkage: 0, 0.25, 0.5 or 1
  std::vector<int64_t> dense_layers;  // keep all neurons; the most important first
  int64_t refresh = 0;                // tokens decoded between two refreshes; 0: there are none
  bool refresh_settles = false;       // "auto": refreshes end once one changes the choice little
  int64_t dense_start = 0;            // first tokens of an answer that are decoded with all neurons
};

// Sets density, fusion, local, local_tokens, prior, lam, tau, sensitivity, dense_layers, refresh or
// dense_start (as options: local-tokens, dense-layers, dense-start) from text. Fails when the name
// is none of these, or the value is unknown or out of range.
Outcome assign(SelectionSettings& settings, std::string_view name, std::string_view value);

// Neurons K that a layer of width F keeps: density * F rounded half to even, 1 to F.
int64_t kept_neurons(double density, int64_t d_ff);

// Neurons that each of L layers of width F keeps; see layer_budgets in glass_export/spec.py. Fails
// when a dense layer is not in 0..L-1.
Result<std::vector<int64_t>> layer_budgets(const SelectionSettings& settings, int64_t layers,
                                           int64_t d_ff);

// Fails when the fusion cannot combine the local form with the prior, since shrinkage needs the
// same mean of both, or has no sensitivity.
Outcome check_rule(const SelectionSettings& settings);

// What it means that scoring ended with this status, which is not kOk.
Failure selection_failure(Status status);

}  // namespace glass
