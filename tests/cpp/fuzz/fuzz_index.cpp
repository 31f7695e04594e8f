// Neuron indices, and the settings that choose neurons: any row of indices is refused, or is one
// that the FFN can read, and any text is refused or is a setting.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "driver/selection.h"
#include "driver/span.h"
#include "fuzz_target.h"
#include "glass/ffn.h"

namespace {

using glass::all;

bool can_be_read(const std::vector<int32_t>& row, int64_t d_ff) {
  size_t count = 0;
  while (count < row.size() && row[count] != glass::kNeuronPadding) ++count;
  for (size_t i = 0; i < row.size(); ++i) {
    const bool padding = i >= count;
    if (padding && row[i] != glass::kNeuronPadding) return false;
    if (!padding && (row[i] < 0 || row[i] >= d_ff || (i > 0 && row[i] <= row[i - 1]))) return false;
  }
  return count > 0;
}

// The bundle ends where the allocation does, so that reading behind it is seen.
void run_ffn(FuzzedDataProvider& input) {
  constexpr int64_t kWidth = 3;
  const int64_t d_ff = input.ConsumeIntegralInRange<int64_t>(1, 9);
  const bool gated = input.ConsumeBool();
  std::vector<float> weights(static_cast<size_t>(d_ff * glass::bundle_rows(gated) * kWidth), 0.5f);
  std::vector<int32_t> row(input.ConsumeIntegralInRange<size_t>(0, 12));
  for (int32_t& index : row) {
    index = input.ConsumeBool() ? input.ConsumeIntegralInRange<int32_t>(-2, 10)
                                : input.ConsumeIntegral<int32_t>();
  }
  const glass::FfnBundle ffn{weights.data(), d_ff,   kWidth, glass::BundleFormat::kFloat32,
                             gated,          nullptr};
  const std::vector<float> x(kWidth, 1.0f);
  std::vector<float> y(kWidth), scratch(glass::sparse_ffn_scratch(ffn, 1, 1));
  const glass::Status status =
      glass::sparse_ffn(ffn, glass::Activation::kSilu, all(x), all(std::as_const(row)), all(y),
                        all(scratch), glass::serial());
  if ((status == glass::Status::kOk) != can_be_read(row, d_ff)) std::abort();
}

void assign_settings(FuzzedDataProvider& input) {
  constexpr const char* kNames[] = {"density", "fusion",      "local",        "local_tokens",
                                    "prior",   "lam",         "tau",          "sensitivity",
                                    "refresh", "dense_start", "dense_layers", "other"};
  glass::SelectionSettings settings;
  while (input.remaining_bytes() > 0) {
    const char* const name = input.PickValueInArray(kNames);
    (void)glass::assign(settings, name, input.ConsumeRandomLengthString(40));
  }
  const auto budgets = glass::layer_budgets(settings, 5, 16);
  if (!budgets) return;
  for (const int64_t budget : *budgets) {
    if (budget < 1 || budget > 16) std::abort();
  }
}

}  // namespace

int fuzz_one(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  run_ffn(input);
  assign_settings(input);
  return 0;
}
