// Linear layers and embeddings of int8 and int4 rows against their definition in double, for every
// instruction set. Rows begin at an address that is a multiple of 2 alone.
#include <algorithm>
#include <cmath>

#include "arrays.h"
#include "check.h"
#include "glass/linear.h"
#include "integer_rows.h"
#include "thread_parallel.h"

namespace glass::test {
namespace {

struct Matrix {
  BundleFormat format;
  int64_t rows;
  int64_t depth;
  std::vector<uint8_t> bytes;  // ends with the last row
  std::vector<double> weights;

  Matrix(BundleFormat form, int64_t n, int64_t d, Random& random)
      : format(form),
        rows(n),
        depth(d),
        bytes(static_cast<size_t>(2 + n * row_bytes(form, d))),
        weights(static_cast<size_t>(n * d)) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
    const int64_t integers = form == BundleFormat::kInt4 ? d / 2 : d;
    for (int64_t i = 0; i < n; ++i) {
      uint8_t* row = bytes.data() + 2 + i * row_bytes(form, d);
      fill_row(form, d, row, row + integers, random, weights.data() + i * d);
    }
  }

  LinearWeights get() const { return {bytes.data() + 2, rows, depth, format}; }
};

void check_linear(const Matrix& matrix, int64_t tokens, int64_t threads, bool has_bias,
                  Random& random) {
  const auto rows = static_cast<size_t>(matrix.rows), depth = static_cast<size_t>(matrix.depth);
  const Floats x = random.values(tokens * matrix.depth), bias = random.values(matrix.rows);
  Floats y(static_cast<size_t>(tokens) * rows, kNan);
  TightScratch scratch(linear_scratch(matrix.get(), tokens, threads));
  ThreadParallel parallel(threads);
  CHECK(linear(matrix.get(), has_bias ? view(bias) : Span<const float>(), view(x), span(y),
               scratch.get(), parallel.get()) == Status::kOk);
  const std::vector<double> meant = quantised(x);
  for (size_t i = 0; i < y.size(); ++i) {
    double sum = has_bias ? double(bias[i % rows]) : 0.0, size = 1.0;
    for (size_t d = 0; d < depth; ++d) {
      const double product = matrix.weights[i % rows * depth + d] * meant[i / rows * depth + d];
      sum += product;
      size += std::fabs(product);
    }
    CHECK_NEAR(y[i], sum, 1e-6 * size);
  }
}

void check_embedding(const Matrix& matrix) {
  const std::vector<int64_t> ids = {matrix.rows - 1, 0, matrix.rows / 2, 0};
  Floats y(ids.size() * static_cast<size_t>(matrix.depth), kNan);
  CHECK(embedding(matrix.get(), view(ids), span(y)) == Status::kOk);
  for (size_t i = 0; i < y.size(); ++i) {
    const auto depth = static_cast<size_t>(matrix.depth);
    CHECK(double(y[i]) == matrix.weights[size_t(ids[i / depth]) * depth + i % depth]);
  }
}

void test_shapes() {
  Random random(1);
  for (const BundleFormat format : kFormats) {
    for (const auto& [rows, depth] :
         {std::pair<int64_t, int64_t>{1, 32}, {3, 64}, {70, 96}, {9, 576}, {130, 608}, {6, 1056}}) {
      const Matrix matrix(format, rows, depth, random);
      check_embedding(matrix);
      for (const int64_t tokens : {1, 2, 4, 5, 8, 15, 33}) {
        check_linear(matrix, tokens, 3, tokens % 2 == 0, random);
      }
    }
  }
}

void test_bad_input() {
  Random random(2);
  for (const BundleFormat format : kFormats) {
    const Matrix matrix(format, 5, 64, random);
    const Floats x = random.values(128), bias = random.values(5);
    Floats y(10), scratch(linear_scratch(matrix.get(), 2, 1));
    const auto call = [&](const LinearWeights& weights, size_t biases, size_t outputs,
                          size_t free) {
      return linear(weights, {bias.data(), biases}, view(x), {y.data(), outputs},
                    {scratch.data(), free}, serial());
    };
    const LinearWeights good = matrix.get();
    CHECK(call(good, 5, 10, scratch.size()) == Status::kOk);
    CHECK(call(good, 5, 10, scratch.size() - 1) == Status::kScratchTooSmall);
    CHECK(call(good, 4, 10, scratch.size()) == Status::kInvalidArgument);
    CHECK(call(good, 5, 5, scratch.size()) == Status::kInvalidArgument);
    CHECK(call({good.data, 5, 48, format}, 5, 10, scratch.size()) == Status::kInvalidArgument);
    CHECK(call({nullptr, 5, 64, format}, 5, 10, scratch.size()) == Status::kInvalidArgument);
    CHECK(call({good.data, 5, 64, BundleFormat::kFloat32}, 5, 10, scratch.size()) ==
          Status::kInvalidArgument);
    Floats rows(128);
    for (const int64_t id : {int64_t{-1}, int64_t{5}}) {
      const std::vector<int64_t> ids = {0, id};
      CHECK(embedding(good, view(ids), span(rows)) == Status::kIndexOutOfRange);
    }
    CHECK(embedding(good, {}, span(rows)) == Status::kInvalidArgument);
  }
}

void test_sizes() {
  CHECK(row_bytes(BundleFormat::kInt4, 896) == 448 + 56);
  CHECK(row_bytes(BundleFormat::kInt8, 576) == 576 + 36);
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
