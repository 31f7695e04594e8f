// sparse_ffn and dense_ffn against the definition in double, for every instruction set.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "arrays.h"
#include "check.h"
#include "glass/ffn.h"
#include "thread_parallel.h"

namespace glass::test {
namespace {

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                                       Activation::kRelu};

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return x > 0.0 ? x : 0.0;
  }
  return 0.0;
}

enum class Kind { kGated, kPlain, kBiased };

struct Layer {
  int64_t d_ff;
  int64_t d_model;
  bool gated;
  int64_t rows;
  Floats weights;
  Floats bias;  // or empty

  Layer(int64_t f, int64_t d, Random& random, Kind kind = Kind::kGated)
      : d_ff(f),
        d_model(d),
        gated(kind == Kind::kGated),
        rows(bundle_rows(gated)),
        weights(random.values(f * rows * d, 1.5f / std::sqrt(static_cast<float>(d)))),
        bias(random.values(kind == Kind::kBiased ? f : 0)) {}

  FfnBundle bundle() const {
    const float* const biases = bias.empty() ? nullptr : bias.data();
    return {weights.data(), d_ff, d_model, BundleFormat::kFloat32, gated, biases};
  }

  // Row 0 gate, 1 up, 2 down; without a gate 0 up, 1 down.
  const float* row(int64_t neuron, int64_t which) const {
    return weights.data() + (neuron * rows + which) * d_model;
  }

  const float* down(int64_t neuron) const { return row(neuron, rows - 1); }

  double product(const float* x, int64_t neuron, int64_t which) const {
    double sum = 0.0;
    for (int64_t d = 0; d < d_model; ++d) sum += static_cast<double>(row(neuron, which)[d]) * x[d];
    return sum;
  }

  double hidden(const float* x, int64_t neuron, Activation activation) const {
    const double first = product(x, neuron, 0);
    if (gated) return activate(activation, first) * product(x, neuron, 1);
    return activate(activation, first + (bias.empty() ? 0.0 : bias[size_t(neuron)]));
  }
};

// y and, per neuron, the local scores.
struct Expected {
  std::vector<double> y, abs_sum, sq_sum;
};

Expected expected_of(const Layer& layer, Activation activation, const Floats& x,
                     const std::vector<int32_t>& neurons, const Floats& score_weights) {
  Expected expected{std::vector<double>(x.size()), std::vector<double>(neurons.size()),
                    std::vector<double>(neurons.size())};
  const size_t width = static_cast<size_t>(layer.d_model);
  for (size_t t = 0; t < x.size() / width; ++t) {
    std::vector<double> h;
    for (const int32_t j : neurons) h.push_back(layer.hidden(&x[t * width], j, activation));
    const double square = std::inner_product(h.begin(), h.end(), h.begin(), 0.0);
    const double norm = std::sqrt(std::max(square, 1e-30));
    for (size_t k = 0; k < h.size(); ++k) {
      expected.abs_sum[k] += score_weights[t] * std::fabs(h[k]) / norm;
      expected.sq_sum[k] += score_weights[t] * h[k] * h[k] / (norm * norm);
      for (size_t d = 0; d < width; ++d) {
        expected.y[t * width + d] += h[k] * layer.down(neurons[k])[d];
      }
    }
  }
  return expected;
}

void check_all_near(const Floats& actual, const std::vector<double>& expected, double tolerance) {
  CHECK(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) CHECK_NEAR(actual[i], expected[i], tolerance);
}

std::vector<int32_t> every(int64_t d_ff, int64_t step) {
  std::vector<int32_t> neurons;
  for (int64_t j = d_ff - 1; j >= 0; j -= step) neurons.push_back(static_cast<int32_t>(j));
  std::reverse(neurons.begin(), neurons.end());
  return neurons;
}

void check_sparse(const Layer& layer, Activation activation, int64_t tokens, int64_t step,
                  int64_t threads, Random& random) {
  const auto neurons = every(layer.d_ff, step);
  const Floats x = random.values(tokens * layer.d_model, 2.0f);
  Floats y(x.size(), kNan);
  TightScratch scratch(sparse_ffn_scratch(layer.bundle(), tokens, threads));
  ThreadParallel parallel(threads);
  CHECK(sparse_ffn(layer.bundle(), activation, view(x), view(neurons), span(y), scratch.get(),
                   parallel.get()) == Status::kOk);
  const Floats ones(static_cast<size_t>(tokens), 1.0f);
  check_all_near(y, expected_of(layer, activation, x, neurons, ones).y, 2e-5);
}

void check_dense(const Layer& layer, Activation activation, int64_t tokens, int64_t threads,
                 Random& random) {
  const Floats x = random.values(tokens * layer.d_model, 2.0f);
  Floats score_weights = random.values(tokens);
  for (float& weight : score_weights) weight = weight > 0.0f ? 1.0f : 0.0f;
  Floats y(x.size(), kNan);
  Floats abs_sum(static_cast<size_t>(layer.d_ff), kNan), sq_sum = abs_sum;
  TightScratch scratch(dense_ffn_scratch(layer.bundle(), tokens, threads));
  ThreadParallel parallel(threads);
  CHECK(dense_ffn(layer.bundle(), activation, view(x), view(score_weights), span(y), span(abs_sum),
                  span(sq_sum), scratch.get(), parallel.get()) == Status::kOk);
  const auto expected = expected_of(layer, activation, x, every(layer.d_ff, 1), score_weights);
  check_all_near(y, expected.y, 2e-5);
  check_all_near(abs_sum, expected.abs_sum, 1e-4);
  check_all_near(sq_sum, expected.sq_sum, 1e-4);
}

void test_shapes() {
  Random random(1);
  for (const auto& [d_ff, d_model] :
       {std::pair<int64_t, int64_t>{1, 1}, {7, 5}, {33, 17}, {64, 64}, {131, 83}, {70, 129}}) {
    for (const Kind kind : {Kind::kGated, Kind::kPlain, Kind::kBiased}) {
      const Layer layer(d_ff, d_model, random, kind);
      for (const int64_t tokens : {1, 2, 7, 65}) {
        check_dense(layer, Activation::kSilu, tokens, 3, random);
        for (const int64_t step : {int64_t{1}, int64_t{3}, d_ff}) {
          check_sparse(layer, Activation::kSilu, tokens, step, 2, random);
        }
      }
    }
  }
}

void test_activations() {
  Random random(2);
  const Layer layer(40, 24, random);
  for (const Activation activation : kActivations) {
    check_sparse(layer, activation, 3, 2, 1, random);
    check_dense(layer, activation, 33, 2, random);
  }
}

// Whatever scores come out, no thread count may change them, and the same one not y either.
void test_repeatable() {
  Random random(3);
  const Layer layer(150, 40, random);
  const int64_t tokens = 70;
  const Floats x = random.values(tokens * layer.d_model), ones(size_t(tokens), 1.0f);
  std::vector<Floats> results;
  for (const int64_t threads : {1, 2, 2, 5}) {
    Floats y(x.size()), abs_sum(150), sq_sum(150);
    TightScratch scratch(dense_ffn_scratch(layer.bundle(), tokens, threads));
    ThreadParallel parallel(threads);
    CHECK(dense_ffn(layer.bundle(), Activation::kSilu, view(x), view(ones), span(y), span(abs_sum),
                    span(sq_sum), scratch.get(), parallel.get()) == Status::kOk);
    y.insert(y.end(), abs_sum.begin(), abs_sum.end());
    y.insert(y.end(), sq_sum.begin(), sq_sum.end());
    results.push_back(y);
  }
  for (const Floats& result : results) CHECK(result == results[0]);
}

void test_neuron_checks() {
  const auto check = [](std::vector<int32_t> neurons) { return check_neurons(view(neurons), 8); };
  CHECK(check({0, 3, 7}) == Status::kOk);
  CHECK(check({}) == Status::kInvalidArgument);
  CHECK(check({0, 8}) == Status::kIndexOutOfRange);
  CHECK(check({-2, 3}) == Status::kIndexOutOfRange);
  CHECK(check({0, -2}) == Status::kIndexOutOfRange);
  CHECK(check({3, 3}) == Status::kIndexNotAscending);
  CHECK(check({4, 3}) == Status::kIndexNotAscending);
}

void test_padding_checks() {
  const auto check = [](std::vector<int32_t> neurons) { return check_neurons(view(neurons), 8); };
  CHECK(check({0, 3, 7, -1}) == Status::kOk);
  CHECK(check({5, -1, -1, -1, -1, -1, -1, -1}) == Status::kOk);
  CHECK(check({-1}) == Status::kPaddingMisplaced);
  CHECK(check({-1, -1, -1}) == Status::kPaddingMisplaced);
  CHECK(check({-1, 3}) == Status::kPaddingMisplaced);
  CHECK(check({1, -1, 3}) == Status::kPaddingMisplaced);
  CHECK(check({1, -1, 3, -1}) == Status::kPaddingMisplaced);
  CHECK(check({1, -1, -1, 3, -1, -1, -1, -1}) == Status::kPaddingMisplaced);
  CHECK(check({1, -1, -2}) == Status::kPaddingMisplaced);
  CHECK(check({1, -2, -1}) == Status::kIndexOutOfRange);
  CHECK(check({1, 8, -1}) == Status::kIndexOutOfRange);
  CHECK(check({3, 1, -1}) == Status::kIndexNotAscending);
}

// Bit by bit and on any number of threads; and of other neurons not even a NaN is read.
void test_padding_changes_nothing() {
  Random random(6);
  Layer layer(40, 24, random);
  std::fill(layer.weights.begin(), layer.weights.begin() + 3 * layer.d_model, kNan);
  const Floats x = random.values(2 * layer.d_model);
  for (const int64_t kept : {1, 2, 7, 39}) {
    std::vector<int32_t> neurons(static_cast<size_t>(kept));
    std::iota(neurons.begin(), neurons.end(), 1);
    std::vector<int32_t> padded = neurons;
    padded.resize(40, kNeuronPadding);
    for (const int64_t threads : {1, 3}) {
      Floats results[2];
      for (int i = 0; i < 2; ++i) {
        Floats& y = results[i];
        y.resize(x.size());
        TightScratch scratch(sparse_ffn_scratch(layer.bundle(), 2, threads));
        ThreadParallel parallel(threads);
        CHECK(sparse_ffn(layer.bundle(), Activation::kSilu, view(x),
                         view(i == 0 ? neurons : padded), span(y), scratch.get(),
                         parallel.get()) == Status::kOk);
      }
      CHECK(results[0] == results[1]);  // false for NaN
    }
  }
}

// One argument after the other is wrong; the first call is right.
void test_bad_sparse_input() {
  Random random(4);
  const Layer layer(8, 4, random);
  const Floats x = random.values(4);
  Floats y(4), scratch(sparse_ffn_scratch(layer.bundle(), 1, 2));
  const std::vector<int32_t> neurons = {1, 2, 6}, unsorted = {2, 1}, outside = {8},
                             padded = {1, -1, 2};
  ThreadParallel two(2);
  const auto call = [&](const FfnBundle& ffn, int activation, Span<const float> input,
                        const std::vector<int32_t>& kept, Span<float> memory, Parallel parallel) {
    return sparse_ffn(ffn, static_cast<Activation>(activation), input, view(kept), span(y), memory,
                      parallel);
  };
  const auto good = layer.bundle();
  CHECK(call(good, 0, view(x), neurons, span(scratch), two.get()) == Status::kOk);
  CHECK(call(good, 0, view(x), neurons, {}, serial()) == Status::kOk);
  CHECK(call({good.data, 8, 4, BundleFormat::kFloat32, true, x.data()}, 0, view(x), neurons,
             span(scratch), two.get()) == Status::kInvalidArgument);  // a gate and a bias
  CHECK(call({nullptr, 8, 4}, 0, view(x), neurons, span(scratch), two.get()) ==
        Status::kInvalidArgument);
  CHECK(call({good.data, 0, 4}, 0, view(x), neurons, span(scratch), two.get()) ==
        Status::kInvalidArgument);
  CHECK(call(good, 4, view(x), neurons, span(scratch), two.get()) == Status::kInvalidArgument);
  CHECK(call(good, 0, {x.data(), 3}, neurons, span(scratch), two.get()) ==
        Status::kInvalidArgument);
  CHECK(call(good, 0, {}, neurons, span(scratch), two.get()) == Status::kInvalidArgument);
  CHECK(call(good, 0, view(x), {}, span(scratch), two.get()) == Status::kInvalidArgument);
  CHECK(call(good, 0, view(x), unsorted, span(scratch), two.get()) == Status::kIndexNotAscending);
  CHECK(call(good, 0, view(x), outside, span(scratch), two.get()) == Status::kIndexOutOfRange);
  CHECK(call(good, 0, view(x), padded, span(scratch), two.get()) == Status::kPaddingMisplaced);
  CHECK(call(good, 0, view(x), neurons, {scratch.data(), scratch.size() - 1}, two.get()) ==
        Status::kScratchTooSmall);
  CHECK(call(good, 0, view(x), neurons, span(scratch), {}) == Status::kInvalidArgument);
}

void test_bad_dense_input() {
  Random random(5);
  const Layer layer(8, 4, random);
  const Floats x = random.values(8), ones(2, 1.0f);
  Floats y(8), abs_sum(8), sq_sum(8), scratch(dense_ffn_scratch(layer.bundle(), 2, 1));
  const auto call = [&](size_t tokens, size_t weights, size_t sums, size_t memory) {
    return dense_ffn(layer.bundle(), Activation::kRelu, {x.data(), tokens * 4},
                     {ones.data(), weights}, {y.data(), tokens * 4}, {abs_sum.data(), sums},
                     span(sq_sum), {scratch.data(), memory}, serial());
  };
  CHECK(call(2, 2, 8, scratch.size()) == Status::kOk);
  CHECK(call(0, 0, 8, scratch.size()) == Status::kInvalidArgument);
  CHECK(call(2, 1, 8, scratch.size()) == Status::kInvalidArgument);
  CHECK(call(2, 2, 7, scratch.size()) == Status::kInvalidArgument);
  CHECK(call(2, 2, 8, scratch.size() - 1) == Status::kScratchTooSmall);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  for_each_isa([] {
    test_shapes();
    test_activations();
    test_repeatable();
    test_padding_changes_nothing();
  });
  test_neuron_checks();
  test_padding_checks();
  test_bad_sparse_input();
  test_bad_dense_input();
  return check_result();
}
