// rms_norm and add_rms_norm against their definition in double, for every instruction set.
#include <cmath>

#include "arrays.h"
#include "check.h"
#include "glass/norm.h"

namespace glass::test {
namespace {

constexpr float kEps = 1e-5f;

void check_rows(const Floats& x, const Floats& weight, const Floats& y) {
  const size_t width = weight.size();
  for (size_t row = 0; row < x.size(); row += width) {
    double square = 0.0;
    for (size_t i = 0; i < width; ++i) square += static_cast<double>(x[row + i]) * x[row + i];
    const double factor = 1.0 / std::sqrt(square / static_cast<double>(width) + kEps);
    for (size_t i = 0; i < width; ++i) {
      CHECK_NEAR(y[row + i], x[row + i] * factor * weight[i], 1e-5);
    }
  }
}

void test_widths() {
  Random random(1);
  for (const int64_t width : {1, 3, 16, 65, 100, 576}) {
    const Floats x = random.values(3 * width, 5.0f), skip = random.values(3 * width);
    const Floats weight = random.values(width);
    Floats y(x.size(), kNan), sum(x.size(), kNan);
    CHECK(rms_norm(view(x), view(weight), kEps, span(y)) == Status::kOk);
    check_rows(x, weight, y);
    CHECK(add_rms_norm(view(x), view(skip), view(weight), kEps, span(y), span(sum)) == Status::kOk);
    for (size_t i = 0; i < x.size(); ++i) CHECK(sum[i] == x[i] + skip[i]);
    check_rows(sum, weight, y);
  }
}

void test_in_place() {
  Random random(2);
  const Floats x = random.values(2 * 37), skip = random.values(2 * 37), weight = random.values(37);
  Floats y(x.size()), sum(x.size()), same = x, skip_and_sum = skip;
  CHECK(rms_norm(view(x), view(weight), kEps, span(y)) == Status::kOk);
  CHECK(rms_norm(view(same), view(weight), kEps, span(same)) == Status::kOk);
  CHECK(same == y);
  CHECK(add_rms_norm(view(x), view(skip), view(weight), kEps, span(y), span(sum)) == Status::kOk);
  CHECK(add_rms_norm(view(x), view(skip_and_sum), view(weight), kEps, span(same),
                     span(skip_and_sum)) == Status::kOk);
  CHECK(same == y && skip_and_sum == sum);
}

void test_bad_input() {
  const Floats x(6, 1.0f), weight(3, 1.0f);
  Floats y(6), sum(6), shorter(5);
  CHECK(rms_norm(view(x), {}, kEps, span(y)) == Status::kInvalidArgument);
  CHECK(rms_norm({x.data(), 5}, view(weight), kEps, span(shorter)) == Status::kInvalidArgument);
  CHECK(rms_norm(view(x), view(weight), kEps, span(shorter)) == Status::kInvalidArgument);
  CHECK(rms_norm(view(x), view(weight), -1.0f, span(y)) == Status::kInvalidArgument);
  CHECK(rms_norm(view(x), view(weight), kNan, span(y)) == Status::kInvalidArgument);
  CHECK(add_rms_norm(view(x), {x.data(), 5}, view(weight), kEps, span(y), span(sum)) ==
        Status::kInvalidArgument);
  CHECK(add_rms_norm(view(x), view(x), view(weight), kEps, span(y), span(shorter)) ==
        Status::kInvalidArgument);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  for_each_isa([] {
    test_widths();
    test_in_place();
  });
  test_bad_input();
  return check_result();
}
