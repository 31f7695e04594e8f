// The entry of all targets: an input that takes a second of processor time is a finding.
// libFuzzer's own -timeout counts the time on the wall, on which a busy machine spends seconds
// elsewhere.
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "fuzz_target.h"

namespace {

constexpr double kMostSeconds = 1.0;

double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const double before = processor_seconds();
  const int result = fuzz_one(data, size);
  const double taken = processor_seconds() - before;
  if (taken <= kMostSeconds) return result;
  std::fprintf(stderr, "an input took %.2f s of processor time\n", taken);
  std::abort();
}
