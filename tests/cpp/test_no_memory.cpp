// The core's C interface while each allocation fails in turn: an error or the right result.
#include <cstdio>
#include <vector>

#include "check.h"
#include "failing_memory.h"
#include "glass_core.cpp"

namespace {

constexpr int64_t kFfn = 8, kModel = 16, kTokens = 4, kThreads = 3;

// Calls until it has no further allocation: alone, and with all after it failing. Each result is
// -1, or 0 with the values of an undisturbed call.
template <class Call>
void every_allocation(const char* name, const std::vector<float>& result, const Call& call) {
  CHECK(call() == 0);
  const std::vector<float> expected = result;
  int64_t refused = 0;
  for (const bool lasting : {false, true}) {
    for (int64_t n = 0;; ++n) {
      failing_memory::arm(n, lasting);
      const int32_t status = call();
      if (!failing_memory::disarm()) break;
      CHECK(status == -1 || (status == 0 && result == expected));
      refused += status == -1;
    }
  }
  CHECK(refused > 0);
  std::printf("%s: refused %lld times\n", name, static_cast<long long>(refused));
}

}  // namespace

int main() {
  std::vector<float> bundles(kFfn * 3 * kModel), x(kTokens * kModel), y(x.size());
  std::vector<float> sums(kFfn), squares(kFfn);
  const std::vector<float> weights(kTokens, 1.0f);
  for (size_t i = 0; i < bundles.size(); ++i) bundles[i] = static_cast<float>(i % 7) * 0.1f - 0.3f;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 5) * 0.2f - 0.4f;
  const std::vector<int32_t> neurons = {1, 4, 6};
  every_allocation("sparse_ffn", y, [&] {
    return glass_core_sparse_ffn(bundles.data(), 0, 1, nullptr, kFfn, kModel, 0, x.data(), kTokens,
                                 neurons.data(), 3, y.data(), kThreads);
  });
  every_allocation("dense_ffn", y, [&] {
    return glass_core_dense_ffn(bundles.data(), 0, 1, nullptr, kFfn, kModel, 0, x.data(), kTokens,
                                weights.data(), y.data(), sums.data(), squares.data(), kThreads);
  });
  std::vector<float> ranked(kFfn);
  std::vector<int32_t> ranks(kFfn);
  every_allocation("ranks", ranked, [&] {
    const int32_t status = glass_core_ranks(sums.data(), kFfn, ranks.data());
    for (int64_t i = 0; i < kFfn; ++i) ranked[i] = static_cast<float>(ranks[i]);
    return status;
  });
  return glass::test::check_result();
}
