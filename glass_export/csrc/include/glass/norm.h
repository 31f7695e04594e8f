// Root-mean-square normalisation, alone and with the residual addition before it.
#pragma once

#include "glass/base.h"

namespace glass {

// y = x / sqrt(mean(x^2) + eps) * weight over rows of length weight.size; x and y may be the same.
Status rms_norm(Span<const float> x, Span<const float> weight, float eps, Span<float> y);

// sum = x + skip, y = rms_norm(sum). `sum` may be x or skip.
Status add_rms_norm(Span<const float> x, Span<const float> skip, Span<const float> weight,
                    float eps, Span<float> y, Span<float> sum);

}  // namespace glass
