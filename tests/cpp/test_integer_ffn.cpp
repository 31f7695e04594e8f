// The FFN of int8 and int4 bundles against its definition in double, for every instruction set.
//
// Bundles are random bytes with sensible scales and outliers: every byte is a valid weight.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "arrays.h"
#include "check.h"
#include "glass/ffn.h"
#include "glass/linear.h"
#include "integer_rows.h"
#include "thread_parallel.h"

namespace glass::test {
namespace {

struct Layer {
  BundleFormat format;
  int64_t d_ff;
  int64_t d_model;
  bool gated;
  int64_t rows;
  std::vector<uint8_t> bytes;  // of exactly the bundles' size
  std::vector<double> weights;
  Floats bias;  // of a plain FFN

  Layer(BundleFormat form, int64_t f, int64_t d, Random& random, bool is_gated = true)
      : format(form),
        d_ff(f),
        d_model(d),
        gated(is_gated),
        rows(bundle_rows(gated)),
        bytes(static_cast<size_t>(f * bundle_bytes(form, d, gated))),
        weights(static_cast<size_t>(f * rows * d)),
        bias(random.values(gated ? 0 : f)) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
    for (int64_t row = 0; row < rows * f; ++row) fill(row / rows, row % rows, random);
    for (int64_t n = 0; n < f; ++n) set_outliers(n, random);
  }

  FfnBundle bundle() const {
    return {bytes.data(), d_ff, d_model, format, gated, gated ? nullptr : bias.data()};
  }

  double* row(int64_t neuron, int64_t which) {
    return weights.data() + (neuron * rows + which) * d_model;
  }

  double* down(int64_t neuron) { return row(neuron, rows - 1); }

 private:
  void fill(int64_t neuron, int64_t which, Random& random) {
    const int64_t groups = d_model / kGroupSize;
    const int64_t size = format == BundleFormat::kInt4 ? d_model / 2 : d_model;
    uint8_t* bundle = bytes.data() + neuron * bundle_bytes(format, d_model, gated);
    fill_row(format, d_model, bundle + which * size, bundle + rows * size + 2 * which * groups,
             random, row(neuron, which));
  }

  // Powers of two, far larger than other weights, in any column; a third of them in columns that do
  // not exist, the next or any, and these count as nothing.
  void set_outliers(int64_t neuron, Random& random) {
    const int64_t end = rows * row_bytes(format, d_model);
    for (int64_t i = 0; i < kOutliers; ++i) {
      const auto width = static_cast<uint32_t>(d_model);
      const bool exists = random.next() % 3 != 0;
      const uint32_t beyond = random.next() % 2 == 0 ? width : 0xFFFFu;
      const uint32_t column = exists ? random.next() % width : beyond;
      const uint32_t exponent = 16u + random.next() % 3, sign = random.next() % 2;
      const uint16_t parts[2] = {static_cast<uint16_t>(column),
                                 static_cast<uint16_t>(exponent << 10 | sign << 15)};
      uint8_t* bundle = bytes.data() + neuron * bundle_bytes(format, d_model, gated);
      std::memcpy(bundle + end + i * kOutlierBytes, parts, sizeof(parts));
      if (exists) {
        down(neuron)[column] += std::ldexp(sign != 0 ? -1.0 : 1.0, static_cast<int>(exponent) - 15);
      }
    }
  }
};

struct Expected {
  std::vector<double> y, abs_sum, sq_sum;
  double scale = 0.0;  // of y
};

Expected expected_of(Layer& layer, const std::vector<double>& x, int64_t step) {
  const auto width = static_cast<size_t>(layer.d_model);
  Expected out{std::vector<double>(x.size()), std::vector<double>(size_t(layer.d_ff)),
               std::vector<double>(size_t(layer.d_ff))};
  for (size_t t = 0; t < x.size() / width; ++t) {
    std::vector<double> hidden(size_t(layer.d_ff));
    double square = 1e-30;
    for (int64_t j = layer.d_ff - 1; j >= 0; j -= step) {
      double first = layer.gated ? 0.0 : layer.bias[size_t(j)], up = 0.0;
      for (size_t d = 0; d < width; ++d) {
        first += layer.row(j, 0)[d] * x[t * width + d];
        up += layer.row(j, 1)[d] * x[t * width + d];
      }
      hidden[size_t(j)] = first / (1.0 + std::exp(-first)) * (layer.gated ? up : 1.0);
      square += hidden[size_t(j)] * hidden[size_t(j)];
      for (size_t d = 0; d < width; ++d) {
        out.y[t * width + d] += hidden[size_t(j)] * layer.down(j)[d];
      }
    }
    for (size_t j = 0; j < hidden.size(); ++j) {
      out.abs_sum[j] += std::fabs(hidden[j]) / std::sqrt(square);
      out.sq_sum[j] += hidden[j] * hidden[j] / square;
    }
  }
  for (const double y : out.y) out.scale = std::max(out.scale, std::fabs(y));
  return out;
}

std::vector<int32_t> every(int64_t d_ff, int64_t step) {
  std::vector<int32_t> neurons;
  for (int64_t j = d_ff - 1; j >= 0; j -= step) neurons.push_back(static_cast<int32_t>(j));
  std::reverse(neurons.begin(), neurons.end());
  return neurons;
}

void check_sparse(Layer& layer, int64_t tokens, int64_t step, int64_t threads, Random& random) {
  const auto neurons = every(layer.d_ff, step);
  const Floats x = random.values(tokens * layer.d_model, 1.0f / std::sqrt(float(layer.d_model)));
  Floats y(x.size(), kNan);
  TightScratch scratch(sparse_ffn_scratch(layer.bundle(), tokens, threads));
  ThreadParallel parallel(threads);
  CHECK(sparse_ffn(layer.bundle(), Activation::kSilu, view(x), view(neurons), span(y),
                   scratch.get(), parallel.get()) == Status::kOk);
  const Expected expected = expected_of(layer, quantised(x), step);
  for (size_t i = 0; i < y.size(); ++i) CHECK_NEAR(y[i], expected.y[i], 2e-5 * expected.scale);
}

void check_dense(Layer& layer, int64_t tokens, int64_t threads, Random& random) {
  const Floats x = random.values(tokens * layer.d_model, 1.0f / std::sqrt(float(layer.d_model)));
  const Floats ones(static_cast<size_t>(tokens), 1.0f);
  Floats y(x.size(), kNan), abs_sum(size_t(layer.d_ff), kNan), sq_sum = abs_sum;
  TightScratch scratch(dense_ffn_scratch(layer.bundle(), tokens, threads));
  ThreadParallel parallel(threads);
  CHECK(dense_ffn(layer.bundle(), Activation::kSilu, view(x), view(ones), span(y), span(abs_sum),
                  span(sq_sum), scratch.get(), parallel.get()) == Status::kOk);
  const Expected expected = expected_of(layer, quantised(x), 1);
  for (size_t i = 0; i < y.size(); ++i) CHECK_NEAR(y[i], expected.y[i], 2e-5 * expected.scale);
  for (size_t j = 0; j < abs_sum.size(); ++j) {
    CHECK_NEAR(abs_sum[j], expected.abs_sum[j], 1e-4 * double(tokens));
    CHECK_NEAR(sq_sum[j], expected.sq_sum[j], 1e-4 * double(tokens));
  }
}

void test_shapes() {
  Random random(1);
  for (const BundleFormat format : kFormats) {
    for (const auto& [d_ff, d_model] :
         {std::pair<int64_t, int64_t>{1, 32}, {7, 64}, {70, 96}, {9, 576}, {13, 608}, {30, 1056}}) {
      for (const bool gated : {true, false}) {
        Layer layer(format, d_ff, d_model, random, gated);
        for (const int64_t tokens : {1, 2, 3, 4, 7, 65}) {
          check_dense(layer, tokens, 3, random);
          for (const int64_t step : {int64_t{1}, int64_t{3}, d_ff}) {
            check_sparse(layer, tokens, step, 2, random);
          }
        }
      }
    }
  }
}

void test_bad_input() {
  Random random(2);
  for (const BundleFormat format : kFormats) {
    const Layer layer(format, 8, 64, random);
    const Floats x = random.values(64);
    Floats y(64), scratch(sparse_ffn_scratch(layer.bundle(), 1, 1));
    const std::vector<int32_t> neurons = {1, 2, 6};
    const auto call = [&](const FfnBundle& ffn, size_t memory) {
      return sparse_ffn(ffn, Activation::kSilu, {x.data(), size_t(ffn.d_model)}, view(neurons),
                        {y.data(), size_t(ffn.d_model)}, {scratch.data(), memory}, serial());
    };
    CHECK(call(layer.bundle(), scratch.size()) == Status::kOk);
    CHECK(call(layer.bundle(), scratch.size() - 1) == Status::kScratchTooSmall);
    CHECK(call({layer.bytes.data(), 8, 48, format}, scratch.size()) == Status::kInvalidArgument);
    CHECK(call({layer.bytes.data(), 8, 64, static_cast<BundleFormat>(3)}, scratch.size()) ==
          Status::kInvalidArgument);
  }
}

void test_sizes() {
  CHECK(bundle_bytes(BundleFormat::kFloat32, 5) == 60);
  CHECK(bundle_bytes(BundleFormat::kInt4, 896) == 1536);   // 1344 + 168 + 4, padded
  CHECK(bundle_bytes(BundleFormat::kInt8, 576) == 1856);   // 1728 + 108 + 4, padded
  CHECK(bundle_bytes(BundleFormat::kInt4, 1024) == 1792);  // 1536 + 192 + 4: a line more
  CHECK(bundle_bytes(BundleFormat::kFloat32, 5, false) == 40);
  CHECK(bundle_bytes(BundleFormat::kInt4, 896, false) == 1024);  // 896 + 112 + 4, padded
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  for_each_isa([] { test_shapes(); });
  test_bad_input();
  test_sizes();
  return check_result();
}
