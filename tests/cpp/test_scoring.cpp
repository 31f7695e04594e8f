// Scores, ranks, fusion and top-K on cases worked by hand. The golden vectors that the Python
// reference shares are checked from Python, through the C interface.
#include <algorithm>
#include <limits>
#include <numeric>
#include <thread>

#include "arrays.h"
#include "check.h"
#include "glass/scoring.h"

namespace glass::test {
namespace {

using Indices = std::vector<int32_t>;
using Words = std::vector<uint32_t>;

constexpr float kTiny = std::numeric_limits<float>::denorm_min();
constexpr float kHuge = std::numeric_limits<float>::max();

Indices ranks_of(const Floats& scores) {
  Indices result(scores.size(), -1);
  Words scratch(2 * scores.size());
  CHECK(ranks(view(scores), span(result), span(scratch)) == Status::kOk);
  return result;
}

template <class T>
Indices top_k_of(const std::vector<T>& scores, size_t k) {
  Indices result(k, -1);
  Words scratch(2 * scores.size());
  CHECK(top_k(view(scores), span(result), span(scratch)) == Status::kOk);
  return result;
}

void test_ranks() {
  CHECK((ranks_of({0.5f, 2.0f, 1.0f}) == Indices{0, 2, 1}));
  CHECK((ranks_of({1.0f, 1.0f, 1.0f}) == Indices{2, 1, 0}));  // ties to the lower index
  CHECK((ranks_of({0.0f, -0.0f, 0.0f}) == Indices{2, 1, 0}));
  CHECK((ranks_of({kTiny, 0.0f, -kTiny, 2 * kTiny}) == Indices{2, 1, 0, 3}));
  CHECK((ranks_of({-1.0f, -2.0f, 3.0f, -kHuge, kHuge}) == Indices{2, 1, 3, 0, 4}));
  CHECK((ranks_of({5.0f}) == Indices{0}));
}

void test_top_k() {
  const Floats scores = {1.0f, 3.0f, 1.0f, 2.0f, 1.0f};
  CHECK((top_k_of(scores, 1) == Indices{1}));
  CHECK((top_k_of(scores, 3) == Indices{0, 1, 3}));  // of three equal ones the first
  CHECK((top_k_of(scores, 4) == Indices{0, 1, 2, 3}));
  CHECK((top_k_of(scores, 5) == Indices{0, 1, 2, 3, 4}));
  CHECK((top_k_of(Words{0, ~0u, 1u << 31, ~0u}, 3) == Indices{1, 2, 3}));
}

// Ranks and top-K of many values with ties, by sorting.
void test_many() {
  Random random(1);
  Floats scores = random.values(3000, 40.0f);
  for (float& score : scores) score = std::trunc(score) * 0.125f;
  Indices order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  const Indices rank = ranks_of(scores);
  for (size_t i = 0; i < order.size(); ++i) {
    CHECK(rank[size_t(order[i])] == static_cast<int32_t>(order.size() - 1 - i));
  }
  for (const size_t k : {size_t{1}, size_t{1234}, scores.size()}) {
    Indices expected(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k));
    std::sort(expected.begin(), expected.end());
    CHECK(top_k_of(scores, k) == expected);
  }
}

void test_local_scores() {
  const Floats abs_sum = {1.0f, 2.0f}, sq_sum = {4.0f, 9.0f};
  Floats scores(2);
  const TokenSums sums{view(abs_sum), view(sq_sum), 4.0};
  CHECK(local_scores(sums, LocalForm::kA, span(scores)) == Status::kOk);
  CHECK((scores == Floats{0.25f, 0.5f}));
  CHECK(local_scores(sums, LocalForm::kSquared, span(scores)) == Status::kOk);
  CHECK((scores == Floats{1.0f, 2.25f}));
  CHECK(local_scores(sums, LocalForm::kGriffin, span(scores)) == Status::kOk);
  CHECK((scores == Floats{2.0f, 3.0f}));
  const TokenSums none{view(abs_sum), view(sq_sum), 0.0};
  CHECK(local_scores(none, LocalForm::kA, span(scores)) == Status::kNoScoredToken);
  CHECK(local_scores({{}, {}, 1.0}, LocalForm::kA, span(scores)) == Status::kInvalidArgument);
}

void test_fusions() {
  const Indices local = {0, 1, 2}, prior = {2, 1, 0};
  Words fused(3);
  CHECK(borda(view(local), view(prior), 0.25, span(fused)) == Status::kOk);
  CHECK((fused == Words{32768, 65536, 98304}));
  CHECK(borda(view(local), view(prior), 1.5, span(fused)) == Status::kInvalidArgument);
  const Floats mean = {1.0f, 4.0f}, null_mean = {3.0f, 0.0f};
  Floats shrunk(2);
  CHECK(shrinkage(view(mean), 3.0, view(null_mean), 1.0, span(shrunk)) == Status::kOk);
  CHECK((shrunk == Floats{1.5f, 3.0f}));
  CHECK(shrinkage(view(mean), 0.0, view(null_mean), 0.0, span(shrunk)) == Status::kInvalidArgument);
}

// Two layers of four neurons; K is 2.
void test_select_neurons() {
  const Floats sums = {1, 2, 3, 4, 8, 6, 4, 2}, prior = {9, 1, 1, 5, 0, 1, 2, 3};
  const TokenSums token_sums{view(sums), view(sums), 2.0};
  Indices neurons(4, -1);
  Words scratch(select_neurons_scratch(4));
  const auto call = [&](const Selection& selection) {
    return select_neurons(token_sums, view(prior), selection, 2, 4, span(neurons), span(scratch));
  };
  CHECK(call({Fusion::kLocal, LocalForm::kA, 0.5, 128.0}) == Status::kOk);
  CHECK((neurons == Indices{2, 3, 0, 1}));
  CHECK(call({Fusion::kGlobal, LocalForm::kA, 0.5, 128.0}) == Status::kOk);
  CHECK((neurons == Indices{0, 3, 2, 3}));
  CHECK(call({Fusion::kBorda, LocalForm::kA, 0.5, 128.0}) == Status::kOk);
  CHECK((neurons == Indices{0, 3, 0, 1}));  // second layer: all equal
  CHECK(call({Fusion::kShrinkage, LocalForm::kSquared, 0.5, 2.0}) == Status::kOk);
  CHECK((neurons == Indices{0, 3, 0, 1}));
  CHECK(select_neurons(token_sums, view(prior), {}, 2, 4, {neurons.data(), 3}, span(scratch)) ==
        Status::kInvalidArgument);
  CHECK(select_neurons(token_sums, view(prior), {}, 2, 4, span(neurons),
                       {scratch.data(), scratch.size() - 1}) == Status::kScratchTooSmall);
  CHECK(select_neurons(token_sums, {}, {}, 2, 4, span(neurons), span(scratch)) ==
        Status::kInvalidArgument);
}

// Rows of layers that keep fewer than the widest are padded.
void test_select_neurons_by_budgets() {
  const Floats sums = {1, 2, 3, 4, 8, 6, 4, 2};
  const TokenSums token_sums{view(sums), view(sums), 2.0};
  Indices neurons(6, 99);
  Words scratch(select_neurons_scratch(4));
  const Selection local{Fusion::kLocal, LocalForm::kA, 0.5, 128.0};
  const auto call = [&](std::vector<int64_t> budgets) {
    return select_neurons(token_sums, {}, local, 2, 4, span(neurons), span(scratch), serial(),
                          view(budgets));
  };
  CHECK(call({1, 3}) == Status::kOk);
  CHECK((neurons == Indices{3, kNeuronPadding, kNeuronPadding, 0, 1, 2}));
  CHECK(call({2, 1}) == Status::kOk);
  CHECK((neurons == Indices{2, 3, kNeuronPadding, 0, kNeuronPadding, kNeuronPadding}));
  CHECK(call({3, 3}) == Status::kOk);
  CHECK((neurons == Indices{1, 2, 3, 0, 1, 2}));
  CHECK(call({0, 3}) == Status::kInvalidArgument);
  CHECK(call({4, 3}) == Status::kInvalidArgument);
  CHECK(call({3}) == Status::kInvalidArgument);
}

void test_sensitivity() {
  const Floats effect = {16.0f, 1.0f, 5.0f, 0.0f}, activity = {1.0f, 16.0f, 0.0f, 2.0f};
  std::vector<double> weights(4);
  CHECK(sensitivity_weights(view(effect), view(activity), 1.0, span(weights)) == Status::kOk);
  CHECK((weights == std::vector<double>{16.0, 0.0625, 0.0, 0.0}));
  CHECK(sensitivity_weights(view(effect), view(activity), 0.5, span(weights)) == Status::kOk);
  CHECK((weights == std::vector<double>{4.0, 0.25, 0.0, 0.0}));
  CHECK(sensitivity_weights(view(effect), view(activity), 0.25, span(weights)) == Status::kOk);
  CHECK((weights == std::vector<double>{2.0, 0.5, 0.0, 0.0}));

  const Floats mean = {1.0f, 4.0f, 8.0f, 1.0f};
  Floats fused(4);
  const auto shrink = [&](Span<const double> by) {
    return shrinkage(view(mean), 3.0, view(activity), 1.0, span(fused), by);
  };
  CHECK(shrink(view(weights)) == Status::kOk);
  CHECK((fused == Floats{2.0f, 3.5f, 0.0f, 0.0f}));
  CHECK(shrink({weights.data(), 3}) == Status::kInvalidArgument);

  const TokenSums sums{view(mean), view(mean), 1.0};
  const Prior prior(view(activity), {}, view(weights));
  Indices neurons(1);
  Words scratch(select_neurons_scratch(4));
  const auto choose = [&](Fusion fusion) {
    const Selection selection{fusion, LocalForm::kSquared, 0.5, 1.0};
    return select_neurons(sums, prior, selection, 1, 4, span(neurons), span(scratch));
  };
  CHECK(choose(Fusion::kShrinkage) == Status::kOk);
  CHECK((neurons == Indices{1}));  // the third is the most active, but does nothing to the loss
  CHECK(choose(Fusion::kBorda) == Status::kInvalidArgument);
}

void test_bad_weights() {
  const Floats good = {1.0f, 2.0f};
  std::vector<double> weights(2);
  for (const float bad : {kNan, HUGE_VALF, -1.0f}) {
    const Floats damaged = {1.0f, bad};
    CHECK(sensitivity_weights(view(damaged), view(good), 1.0, span(weights)) == Status::kNotFinite);
    CHECK(sensitivity_weights(view(good), view(damaged), 1.0, span(weights)) == Status::kNotFinite);
  }
  for (const double power : {0.0, 0.3, 2.0, static_cast<double>(kNan)}) {
    CHECK(sensitivity_weights(view(good), view(good), power, span(weights)) ==
          Status::kInvalidArgument);
  }
  CHECK(sensitivity_weights(view(good), {good.data(), 1}, 1.0, span(weights)) ==
        Status::kInvalidArgument);
}

void run_on_threads(void*, int64_t count, Parallel::Task task, void* arg) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < count; ++i) threads.emplace_back(task, arg, i);
  for (std::thread& thread : threads) thread.join();
}

// Known ranks of the prior and more threads change nothing.
void test_select_neurons_in_parallel() {
  const int64_t layers = 5, d_ff = 3000, kept = 700;
  Random random(1);
  const Floats prior = random.values(layers * d_ff);
  Floats positive = random.values(layers * d_ff);
  for (float& sum : positive) sum = sum * sum;
  const TokenSums token_sums{view(positive), view(positive), 2.0};
  Indices ranked(layers * d_ff), wanted(layers * kept), got(layers * kept, -1);
  const Parallel threads{nullptr, 3, run_on_threads};
  Words scratch(select_neurons_scratch(d_ff, 3));
  CHECK(prior_ranks(view(prior), layers, d_ff, span(ranked), span(scratch)) == Status::kOk);
  CHECK(select_neurons(token_sums, view(prior), {}, layers, d_ff, span(wanted), span(scratch)) ==
        Status::kOk);
  const Prior known{view(prior), view(ranked)};
  CHECK(select_neurons(token_sums, known, {}, layers, d_ff, span(got), span(scratch), threads) ==
        Status::kOk);
  CHECK(got == wanted);
  const Prior short_ranks{view(prior), {ranked.data(), ranked.size() - 1}};
  CHECK(select_neurons(token_sums, short_ranks, {}, layers, d_ff, span(got), span(scratch)) ==
        Status::kInvalidArgument);
  CHECK(select_neurons(token_sums, known, {}, layers, d_ff, span(got),
                       {scratch.data(), scratch.size() - 1}, threads) == Status::kScratchTooSmall);
  positive[4 * d_ff + 7] = kNan;
  CHECK(select_neurons(token_sums, known, {}, layers, d_ff, span(got), span(scratch), threads) ==
        Status::kNotFinite);
}

void test_bad_input() {
  for (const float bad : {kNan, -kNan, HUGE_VALF, -HUGE_VALF}) {
    const Floats scores = {1.0f, bad, 2.0f};
    Indices result(3);
    Words scratch(6);
    CHECK(ranks(view(scores), span(result), span(scratch)) == Status::kNotFinite);
    CHECK(top_k(view(scores), span(result), span(scratch)) == Status::kNotFinite);
  }
  const Floats scores = {1.0f, 2.0f};
  Indices result(3);
  Words scratch(4);
  CHECK(ranks(view(scores), span(result), span(scratch)) == Status::kInvalidArgument);
  CHECK(top_k(view(scores), span(result), span(scratch)) == Status::kInvalidArgument);
  CHECK(top_k(view(scores), {result.data(), 0}, span(scratch)) == Status::kInvalidArgument);
  CHECK(ranks(view(scores), {result.data(), 2}, {scratch.data(), 3}) == Status::kScratchTooSmall);
  CHECK(top_k(view(scores), {result.data(), 2}, {scratch.data(), 3}) == Status::kScratchTooSmall);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  test_ranks();
  test_top_k();
  test_many();
  test_local_scores();
  test_fusions();
  test_select_neurons();
  test_select_neurons_by_budgets();
  test_sensitivity();
  test_bad_weights();
  test_select_neurons_in_parallel();
  test_bad_input();
  return check_result();
}
