#include "glass/norm.h"

#include <cmath>

#include "internal.h"

namespace glass {
namespace {

bool are_rows(Span<const float> x, Span<const float> weight) {
  return weight.size > 0 && weight.data != nullptr && x.size % weight.size == 0 &&
         (x.data != nullptr || x.size == 0);
}

bool is_valid_eps(float eps) { return eps >= 0.0f && std::isfinite(eps); }

internal::NormTask rows_of(Span<const float> x, Span<const float> weight, float eps,
                           Span<float> y) {
  internal::NormTask task;
  task.x = x.data;
  task.weight = weight.data;
  task.eps = eps;
  task.width = static_cast<int64_t>(weight.size);
  task.rows = static_cast<int64_t>(x.size / weight.size);
  task.y = y.data;
  return task;
}

}  // namespace

Status rms_norm(Span<const float> x, Span<const float> weight, float eps, Span<float> y) {
  const auto size = static_cast<int64_t>(x.size);
  if (!are_rows(x, weight) || !is_valid_eps(eps) || !internal::has_size(y, size)) {
    return Status::kInvalidArgument;
  }
  internal::kernels().norm(rows_of(x, weight, eps, y));
  return Status::kOk;
}

Status add_rms_norm(Span<const float> x, Span<const float> skip, Span<const float> weight,
                    float eps, Span<float> y, Span<float> sum) {
  const auto size = static_cast<int64_t>(x.size);
  if (!are_rows(x, weight) || !is_valid_eps(eps) || !internal::has_size(skip, size) ||
      !internal::has_size(y, size) || !internal::has_size(sum, size)) {
    return Status::kInvalidArgument;
  }
  internal::NormTask task = rows_of(x, weight, eps, y);
  task.skip = skip.data;
  task.sum = sum.data;
  internal::kernels().norm(task);
  return Status::kOk;
}

}  // namespace glass
