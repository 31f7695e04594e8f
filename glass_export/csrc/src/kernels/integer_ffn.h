// The FFN of chosen neurons whose weights are integers: what all instruction sets share.
//
// Include after one vec_*.h and one integer_*.h, which has
//   kTokens                        tokens that gate_up can take together
//   gate_up<kInt4, kCount>(...)    dot products of a neuron's gate and up rows with kCount tokens
//   add_down<kInt4, kCount>(...)   y += sum_n h[n] down row n
// The bytes are those of docs/adr/0012-integer-bundles.md.
#pragma once

#include "kernels/integer_row.h"
#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

// One group of a token; the scale is NaN when a value is NaN or infinite.
inline void quantise_group(const float* x, float* rounded, float* scale, float* sum_of_values) {
  Vec most = zero(), check = zero();
  for (int64_t i = 0; i < kGroupSize; i += kLanes) {
    const Vec v = load(x + i);
    most = max(abs(v), most);
    check = fma(v, zero(), check);
  }
  float lanes[kLanes], largest = 0.0f;
  store(lanes, most);
  for (int64_t i = 0; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  const float not_finite = sum(check);
  const bool is_finite = not_finite == 0.0f;
  // Of smaller values the inverse is infinite.
  const bool is_zero = !(largest > 1e-30f);
  const Vec inverse = broadcast(is_finite && !is_zero ? 127.0f / largest : 0.0f);
  Vec total = zero();
  for (int64_t i = 0; i < kGroupSize; i += kLanes) {
    const Vec v = is_finite ? round(mul(load(x + i), inverse)) : zero();
    store(rounded + i, v);
    total = add(total, v);
  }
  *scale = is_finite ? (is_zero ? 0.0f : largest / 127.0f) : not_finite;
  *sum_of_values = *scale * sum(total);
}

void quantise(const QuantiseTask& task) {
  const int64_t stride = quantised_stride(task.d_model), scales = scales_stride(task.d_model);
  const int64_t half = kGroupSize / 2;
  for (int64_t t = 0; t < task.tokens; ++t) {
    const float* x = task.x + t * task.d_model;
    int8_t* values = task.values + t * stride;
    for (int64_t i = 0; i < stride; ++i) values[i] = 0;
    for (int64_t g = 0; g < scales; ++g) {
      float* scale = task.scales + t * scales + g;
      float* total = task.sums + t * scales + g;
      *scale = *total = 0.0f;
      if (g * kGroupSize >= task.d_model) continue;
      float rounded[kGroupSize];
      quantise_group(x + g * kGroupSize, rounded, scale, total);
      const bool is_int4 = task.format == BundleFormat::kInt4;
      int8_t* first = values + g * (is_int4 ? half : kGroupSize);
      int8_t* second = is_int4 ? first + stride / 2 : first + half;
      for (int64_t i = 0; i < half; ++i) first[i] = static_cast<int8_t>(rounded[i]);
      for (int64_t i = 0; i < half; ++i) second[i] = static_cast<int8_t>(rounded[half + i]);
    }
  }
}

template <bool kInt4>
void dequantise_rows(const DequantiseTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.d_model);
  for (int64_t j = 0; j < task.count; ++j) {
    for (int64_t r = 0; r < task.rows; ++r) {
      const IntegerRow row = row_of(layout, task.bundles + j * layout.stride, task.first_row + r);
      float* weights = task.weights + j * task.neuron_stride + r * task.d_model;
      for (int64_t d = task.column_begin; d < task.column_end; d += kGroupSize) {
        const float scale = scale_at(row, d / kGroupSize);
        float* out = weights + d;
        if (kInt4) {
          const uint8_t* bytes = row.values + d / 2;
          for (int64_t i = 0; i < 16; ++i) out[i] = scale * static_cast<float>((bytes[i] & 15) - 8);
          for (int64_t i = 0; i < 16; ++i) {
            out[16 + i] = scale * static_cast<float>((bytes[i] >> 4) - 8);
          }
        } else {
          const uint8_t* bytes = row.values + d;
          for (int64_t i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(bytes[i] - 128);
        }
      }
    }
  }
}

void dequantise(const DequantiseTask& task) {
  if (task.format == BundleFormat::kInt4) return dequantise_rows<true>(task);
  dequantise_rows<false>(task);
}

// Four neurons share a pass over y.
constexpr int kIntegerGroup = 4;
// Bundles are fetched so many neurons ahead.
constexpr int kAhead = 6;

struct IntegerGroup {
  const uint8_t* bundle[kIntegerGroup];
  const uint8_t* next[kIntegerGroup];  // bundles to fetch meanwhile, or null
};

inline const uint8_t* integer_bundle(const IntegerFfnTask& task, const IntegerLayout& layout,
                                     int64_t k) {
  const int64_t neuron = task.neurons == nullptr ? k : task.neurons[k];
  return task.bundles + neuron * layout.stride;
}

inline QuantisedTokens token_at(const IntegerFfnTask& task, int64_t t) {
  const int64_t scales = scales_stride(task.d_model);
  return {task.x.values + t * quantised_stride(task.d_model), task.x.scales + t * scales,
          task.x.sums + t * scales};
}

// Tokens [t, t + kSome) of kCount neurons.
template <bool kInt4, int kCount, int kSome>
inline void integer_tokens(const IntegerFfnTask& task, const IntegerLayout& layout,
                           const IntegerGroup& group, int64_t first, int64_t t) {
  float gate[kSome][kMaxLanes] = {}, up[kSome][kMaxLanes] = {}, hidden[kMaxLanes];
  const QuantisedTokens x = token_at(task, t);
  for (int n = 0; n < kCount; ++n) {
    float products[2 * kSome];
    gate_up<kInt4, kSome>(layout, group.bundle[n], x, t == 0 ? group.next[n] : nullptr, products);
    for (int s = 0; s < kSome; ++s) gate[s][n] = products[s];
    for (int s = 0; s < kSome; ++s) up[s][n] = products[kSome + s];
  }
  for (int s = 0; s < kSome; ++s) {
    for (int64_t i = 0; i < kCount; i += kLanes) {
      const Vec activated = activate(task.activation, load(gate[s] + i));
      store(hidden + i, mul(activated, load(up[s] + i)));
    }
    add_down<kInt4, kCount>(layout, group.bundle, hidden, task.y + (t + s) * task.d_model);
    if (task.hidden == nullptr) continue;
    float* kept = task.hidden + first * task.hidden_stride + t + s;
    for (int n = 0; n < kCount; ++n) kept[n * task.hidden_stride] = hidden[n];
  }
}

template <bool kInt4, int kCount>
inline void integer_group(const IntegerFfnTask& task, const IntegerLayout& layout, int64_t first) {
  IntegerGroup group;
  for (int n = 0; n < kCount; ++n) {
    const int64_t next = first + kAhead + n;
    group.bundle[n] = integer_bundle(task, layout, first + n);
    group.next[n] = next < task.count ? integer_bundle(task, layout, next) : nullptr;
  }
  int64_t t = 0;
  for (; t + kTokens <= task.tokens; t += kTokens) {
    integer_tokens<kInt4, kCount, kTokens>(task, layout, group, first, t);
  }
  for (; t < task.tokens; ++t) integer_tokens<kInt4, kCount, 1>(task, layout, group, first, t);
}

template <bool kInt4>
void integer_neurons(const IntegerFfnTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.d_model);
  for (int64_t i = 0; i < task.tokens * task.d_model; ++i) task.y[i] = 0.0f;
  int64_t k = 0;
  for (; k + kIntegerGroup <= task.count; k += kIntegerGroup) {
    integer_group<kInt4, kIntegerGroup>(task, layout, k);
  }
  for (; k < task.count; ++k) integer_group<kInt4, 1>(task, layout, k);
}

void integer_sparse_ffn(const IntegerFfnTask& task) {
  if (task.format == BundleFormat::kInt4) return integer_neurons<true>(task);
  integer_neurons<false>(task);
}

constexpr IntegerKernels kIntegerKernels = {quantise, integer_sparse_ffn, dequantise};

}  // namespace
}  // namespace glass::internal
