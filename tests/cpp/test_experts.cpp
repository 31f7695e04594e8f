// dense_experts and sparse_experts against the FFN of each expert by itself, token by token.
#include <algorithm>
#include <cmath>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "glass/experts.h"
#include "thread_parallel.h"

namespace glass::test {
namespace {

constexpr int64_t kExperts = 5, kWidth = 24, kModel = 40, kPerToken = 2, kKept = 7;
constexpr Activation kActivation = Activation::kSilu;

struct Mixture {
  Floats weights;
  std::vector<int64_t> index;  // expert 3 has no token
  Floats routing;
  Floats x;
  Floats score_weights;
  int64_t tokens;

  Mixture(int64_t count, Random& random)
      : weights(random.values(kExperts * kWidth * 3 * kModel, 0.3f)),
        routing(random.values(count * kPerToken)),
        x(random.values(count * kModel)),
        tokens(count) {
    constexpr int64_t kUsed[] = {0, 1, 2, 4};
    for (int64_t t = 0; t < count; ++t) {
      const int64_t first = random.next() % 4;
      index.push_back(kUsed[first]);
      index.push_back(kUsed[(first + 1 + random.next() % 3) % 4]);
      score_weights.push_back(t % 3 == 0 ? 0.0f : 1.0f);
    }
  }

  FfnBundle expert(int64_t number) const {
    return {weights.data() + number * kWidth * 3 * kModel,
            kWidth,
            kModel,
            BundleFormat::kFloat32,
            true,
            nullptr};
  }
  Experts experts() const { return {expert(0), kExperts}; }
  Routing routed() const { return {view(index), view(routing)}; }
};

// y of token t alone, by compute(expert, y [D]).
template <class Compute>
Floats mixed(const Mixture& mixture, int64_t t, const Compute& compute) {
  Floats sum(kModel, 0.0f), part(kModel);
  for (int64_t i = 0; i < kPerToken; ++i) {
    compute(mixture.index[t * kPerToken + i], part);
    for (int64_t d = 0; d < kModel; ++d) sum[d] += mixture.routing[t * kPerToken + i] * part[d];
  }
  return sum;
}

bool close(const Floats& got, int64_t offset, const Floats& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(got[static_cast<size_t>(offset) + i] - expected[i]) <= 1e-5f)) return false;
  }
  return true;
}

void test_dense(int64_t tokens, const Parallel& parallel, Random& random) {
  const Mixture mixture(tokens, random);
  Floats y(tokens * kModel), abs_sum(kExperts * kWidth, kNan), sq_sum(kExperts * kWidth, kNan);
  TightScratch scratch(dense_experts_scratch(mixture.experts(), tokens, parallel.threads));
  CHECK(dense_experts(mixture.experts(), kActivation, view(mixture.x), mixture.routed(),
                      view(mixture.score_weights), span(y), span(abs_sum), span(sq_sum),
                      scratch.get(), parallel) == Status::kOk);
  Floats wanted_abs(kExperts * kWidth, 0.0f), wanted_sq(kExperts * kWidth, 0.0f);
  for (int64_t t = 0; t < tokens; ++t) {
    const Floats sum = mixed(mixture, t, [&](int64_t number, Floats& part) {
      Floats one_abs(kWidth), one_sq(kWidth);
      Floats memory(dense_ffn_scratch(mixture.expert(number), 1, 1));
      CHECK(dense_ffn(mixture.expert(number), kActivation, {mixture.x.data() + t * kModel, kModel},
                      {&mixture.score_weights[t], 1}, span(part), span(one_abs), span(one_sq),
                      span(memory), serial()) == Status::kOk);
      for (int64_t j = 0; j < kWidth; ++j) {
        wanted_abs[number * kWidth + j] += one_abs[j];
        wanted_sq[number * kWidth + j] += one_sq[j];
      }
    });
    CHECK(close(y, t * kModel, sum));
  }
  CHECK(close(abs_sum, 0, wanted_abs));
  CHECK(close(sq_sum, 0, wanted_sq));
}

void test_sparse(int64_t tokens, const Parallel& parallel, Random& random) {
  const Mixture mixture(tokens, random);
  std::vector<int32_t> neurons;
  for (int32_t number = 0; number < kExperts; ++number) {
    for (int32_t k = 0; k < kKept; ++k) {
      neurons.push_back(k == kKept - 1 ? kNeuronPadding : 3 * k + number % 3);
    }
  }
  Floats y(tokens * kModel);
  TightScratch scratch(sparse_experts_scratch(mixture.experts(), tokens, parallel.threads));
  CHECK(sparse_experts(mixture.experts(), kActivation, view(mixture.x), mixture.routed(),
                       view(neurons), span(y), scratch.get(), parallel) == Status::kOk);
  for (int64_t t = 0; t < tokens; ++t) {
    const Floats sum = mixed(mixture, t, [&](int64_t number, Floats& part) {
      CHECK(sparse_ffn(mixture.expert(number), kActivation, {mixture.x.data() + t * kModel, kModel},
                       {neurons.data() + number * kKept, kKept}, span(part), {},
                       serial()) == Status::kOk);
    });
    CHECK(close(y, t * kModel, sum));
  }
}

void test_bad_calls(Random& random) {
  Mixture mixture(2, random);
  std::vector<int32_t> neurons(kExperts * kKept);
  for (size_t i = 0; i < neurons.size(); ++i) neurons[i] = static_cast<int32_t>(i % kKept);
  Floats y(2 * kModel), scratch(sparse_experts_scratch(mixture.experts(), 2, 1));
  const auto call = [&](size_t rows, size_t memory) {
    return sparse_experts(mixture.experts(), kActivation, view(mixture.x), mixture.routed(),
                          {neurons.data(), rows}, span(y), {scratch.data(), memory}, serial());
  };
  CHECK(call(neurons.size(), scratch.size()) == Status::kOk);
  CHECK(call(neurons.size(), scratch.size() - 1) == Status::kScratchTooSmall);
  CHECK(call(neurons.size() - 1, scratch.size()) == Status::kInvalidArgument);
  mixture.index[1] = mixture.index[0];
  CHECK(call(neurons.size(), scratch.size()) == Status::kIndexOutOfRange);
  mixture.index[1] = kExperts;
  CHECK(call(neurons.size(), scratch.size()) == Status::kIndexOutOfRange);
  mixture.index.pop_back();
  CHECK(call(neurons.size(), scratch.size()) == Status::kInvalidArgument);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass;
  using namespace glass::test;
  Random random(11);
  ThreadParallel threads(3);
  for (const int64_t tokens : {1, 3, 70}) {
    for (const Parallel& parallel : {serial(), threads.get()}) {
      test_dense(tokens, parallel, random);
      test_sparse(tokens, parallel, random);
    }
  }
  test_bad_calls(random);
  return check_result();
}
