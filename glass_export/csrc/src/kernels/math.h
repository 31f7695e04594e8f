// Elementary functions on vectors, and the activations. Include after one vec_*.h.
#pragma once

#include "glass/ffn.h"
#include "kernels/kernels.h"

namespace glass::internal {
namespace {

// e^x, relative error below 2e-7; 0 below -87.7, at most e^88.3; NaN stays NaN.
// Source: Cephes expf: e^x = 2^n e^r, |r| <= ln(2) / 2.
inline Vec exp(Vec x) {
  x = max(broadcast(-88.0f), min(broadcast(88.3f), x));
  const Vec n = round(mul(x, broadcast(1.44269504f)));
  Vec r = fma(n, broadcast(-0.693359375f), x);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  return mul(add(fma(p, mul(r, r), r), broadcast(1.0f)), power_of_two(n));
}

// tanh(x), relative error below 3e-7. Source: Cephes tanhf.
inline Vec tanh(Vec x) {
  const Vec z = mul(x, x);
  Vec p = broadcast(-5.70498872745e-3f);
  p = fma(p, z, broadcast(2.06390887954e-2f));
  p = fma(p, z, broadcast(-5.37397155531e-2f));
  p = fma(p, z, broadcast(1.33314422036e-1f));
  p = fma(p, z, broadcast(-3.33332819422e-1f));
  const Vec small = fma(mul(p, z), x, x);
  const Vec one = broadcast(1.0f), two = broadcast(2.0f);
  const Vec large = sub(one, div(two, add(exp(mul(two, abs(x))), one)));
  const Vec with_sign = select_less(x, zero(), sub(zero(), large), large);
  return select_less(abs(x), broadcast(0.625f), small, with_sign);
}

// erfc(z) for z >= 0, relative error below 2e-6: t e^(P(t) - z^2) with t = 1 / (1 + z / 2). P is
// the least-squares fit of degree 9 at the Chebyshev nodes for 0 <= z <= 9.3; beyond, e^x is 0.
inline Vec erfc(Vec z) {
  const Vec t = div(broadcast(1.0f), fma(broadcast(0.5f), z, broadcast(1.0f)));
  Vec p = broadcast(0.138559336f);
  p = fma(p, t, broadcast(-0.645911329f));
  p = fma(p, t, broadcast(1.07399129f));
  p = fma(p, t, broadcast(-0.585266878f));
  p = fma(p, t, broadcast(-0.17287149f));
  p = fma(p, t, broadcast(0.0509365614f));
  p = fma(p, t, broadcast(0.017526168f));
  p = fma(p, t, broadcast(0.390257164f));
  p = fma(p, t, broadcast(0.998205876f));
  p = fma(p, t, broadcast(-1.26542665f));
  return mul(t, exp(fma(sub(zero(), z), z, p)));
}

inline Vec silu(Vec x) { return div(x, add(broadcast(1.0f), exp(sub(zero(), x)))); }

// x Phi(x), by the tail of the normal distribution on x's side: no cancellation for x < 0.
inline Vec gelu(Vec x) {
  const Vec tail = mul(broadcast(0.5f), erfc(mul(abs(x), broadcast(0.707106781f))));
  return mul(x, select_less(x, zero(), tail, sub(broadcast(1.0f), tail)));
}

// x (1 + tanh(u)) / 2 = x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
inline Vec gelu_tanh(Vec x) {
  const Vec cubic = fma(mul(mul(x, x), broadcast(0.044715f)), x, x);
  return div(x, add(broadcast(1.0f), exp(mul(cubic, broadcast(-1.59576912f)))));
}

inline Vec activate(Activation activation, Vec x) {
  switch (activation) {
    case Activation::kSilu:
      return silu(x);
    case Activation::kGelu:
      return gelu(x);
    case Activation::kGeluTanh:
      return gelu_tanh(x);
    case Activation::kRelu:
      return max(zero(), x);
  }
  return x;
}

// h of the neurons from `first` on: act(gate) * up, or act(up + bias) where there is one product.
template <int kInputs>
inline Vec hidden_vec(Activation activation, const float (&products)[kInputs][kMaxLanes],
                      const float (&biases)[kMaxLanes], int64_t first = 0) {
  const Vec product = load(products[0] + first);
  if constexpr (kInputs == 2) {
    return mul(activate(activation, product), load(products[1] + first));
  } else {
    return activate(activation, add(product, load(biases + first)));
  }
}

}  // namespace
}  // namespace glass::internal
