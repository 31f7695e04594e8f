// How neurons are chosen: the artifact's defaults, and what the user sets instead.
#pragma once

#include <cstdint>
#include <string_view>

#include "glass/scoring.h"
#include "run/status.h"

namespace glass::run {

// Which statistic of the null text serves as the prior; the order is that of kStatisticNames.
enum class Statistic { kA, kI, kG, kF };
inline constexpr const char* kStatisticNames[] = {"A", "I", "G", "F"};

// The run-time choice, field by field as glass_export.recipe.SelectionRecipe.
struct SelectionSettings {
  double density = 0.5;  // share of the FFN neurons that are kept; 1 is the dense model
  Statistic prior = Statistic::kA;
  Selection rule;
  int64_t refresh = 0;      // tokens decoded between two refreshes; 0: there are none
  int64_t dense_start = 0;  // first tokens of an answer that are decoded with all neurons
};

// Sets density, fusion, local, prior, lam, tau, refresh or dense_start (as an option: dense-start)
// from text. Fails when the name is none of these, or the value is unknown or out of range.
Outcome assign(SelectionSettings& settings, std::string_view name, std::string_view value);

// Neurons K that a layer of width F keeps: density * F rounded half to even, 1 to F.
int64_t kept_neurons(double density, int64_t d_ff);

// Fails when the fusion cannot combine the local form with the prior: shrinkage needs the same mean
// of both.
Outcome check_scales(const SelectionSettings& settings);

}  // namespace glass::run
