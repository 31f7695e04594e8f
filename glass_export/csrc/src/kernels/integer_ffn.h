// The FFN of chosen neurons whose weights are integers, read in place. Include after
// integer_linear.h.
#pragma once

#include "kernels/integer_linear.h"
#include "kernels/kernels.h"
#include "kernels/math.h"

namespace glass::internal {
namespace {

// Four neurons share a pass over y; two at a time, a pass over x.
constexpr int kIntegerGroup = 4;
// Bundles are fetched so many neurons ahead.
constexpr int kAhead = 6;

struct IntegerGroup {
  const uint8_t* bundle[kIntegerGroup];
  const uint8_t* next[kIntegerGroup];  // bundles to fetch meanwhile, or null
  float bias[kMaxLanes];
};

inline int64_t neuron_of(const IntegerFfnTask& task, int64_t k) {
  return task.neurons == nullptr ? k : task.neurons[k];
}

inline const uint8_t* integer_bundle(const IntegerFfnTask& task, const IntegerLayout& layout,
                                     int64_t k) {
  return task.bundles + neuron_of(task, k) * layout.stride;
}

// Products of a neuron's kInputs rows before down (gate and up, or up) with one token.
template <bool kInt4, int kInputs>
inline void multiply_inputs(const IntegerLayout& layout, const uint8_t* bundle, const uint8_t* next,
                            const QuantisedTokens& x, float (&products)[kInputs]) {
  IntegerRow rows[kInputs];
  for (int i = 0; i < kInputs; ++i) rows[i] = row_of(layout, bundle, i);
  Fetch fetch = next == nullptr ? Fetch() : Fetch(next, layout.stride);
  multiply_rows<kInt4, kInputs, 1>(rows, x, layout.groups * kGroupSize, fetch, products);
  fetch.rest();
}

// y += sum_n h[n] down row n.
template <bool kInt4, int kCount>
inline void add_down(const IntegerLayout& layout, const uint8_t* const* bundles, const float* h,
                     float* y) {
  constexpr int64_t kBytes = kInt4 ? 16 : 32;
  IntegerRow rows[kCount];
  for (int n = 0; n < kCount; ++n) rows[n] = down_row(layout, bundles[n]);
  for (int64_t g = 0; g < layout.groups; g += kScaleBlock) {
    const int64_t count = smaller(kScaleBlock, layout.groups - g);
    float factors[kCount][kScaleBlock];
    for (int n = 0; n < kCount; ++n) {
      load_scales(rows[n], g, count, factors[n]);
      for (int64_t i = 0; i < kScaleBlock; i += kLanes) {
        store(factors[n] + i, mul(broadcast(h[n]), load(factors[n] + i)));
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      float* at = y + (g + i) * kGroupSize;
      Vec sums[kGroupVecs];
      GLASS_UNROLL
      for (int v = 0; v < kGroupVecs; ++v) sums[v] = load(at + v * kLanes);
      GLASS_UNROLL
      for (int n = 0; n < kCount; ++n) {
        Vec values[kGroupVecs];
        group_floats<kInt4>(rows[n].values + (g + i) * kBytes, values);
        const Vec factor = broadcast(factors[n][i]);
        GLASS_UNROLL
        for (int v = 0; v < kGroupVecs; ++v) sums[v] = fma(factor, values[v], sums[v]);
      }
      GLASS_UNROLL
      for (int v = 0; v < kGroupVecs; ++v) store(at + v * kLanes, sums[v]);
    }
  }
  const int64_t d_model = layout.groups * kGroupSize;
  for (int n = 0; n < kCount; ++n) add_outliers(layout, bundles[n], h[n], 0, d_model, y);
}

// One token of kCount neurons.
template <bool kInt4, int kInputs, int kCount>
inline void integer_token(const IntegerFfnTask& task, const IntegerLayout& layout,
                          const IntegerGroup& group, int64_t first, int64_t t) {
  float products[kInputs][kMaxLanes] = {}, hidden[kMaxLanes];
  const QuantisedTokens x = token_at(task.x, task.d_model, t);
  for (int n = 0; n < kCount; ++n) {
    float own[kInputs];
    multiply_inputs<kInt4, kInputs>(layout, group.bundle[n], t == 0 ? group.next[n] : nullptr, x,
                                    own);
    for (int i = 0; i < kInputs; ++i) products[i][n] = own[i];
  }
  for (int64_t i = 0; i < kCount; i += kLanes) {
    store(hidden + i, hidden_vec<kInputs>(task.activation, products, group.bias, i));
  }
  add_down<kInt4, kCount>(layout, group.bundle, hidden, task.y + t * task.d_model);
  if (task.hidden == nullptr) return;
  float* kept = task.hidden + first * task.hidden_stride + t;
  for (int n = 0; n < kCount; ++n) kept[n * task.hidden_stride] = hidden[n];
}

template <bool kInt4, int kInputs, int kCount>
inline void integer_group(const IntegerFfnTask& task, const IntegerLayout& layout, int64_t first) {
  IntegerGroup group = {};
  for (int n = 0; n < kCount; ++n) {
    const int64_t next = first + kAhead + n;
    group.bundle[n] = integer_bundle(task, layout, first + n);
    group.next[n] = next < task.count ? integer_bundle(task, layout, next) : nullptr;
    if (task.bias != nullptr) group.bias[n] = task.bias[neuron_of(task, first + n)];
  }
  for (int64_t t = 0; t < task.tokens; ++t) {
    integer_token<kInt4, kInputs, kCount>(task, layout, group, first, t);
  }
}

template <bool kInt4, int kInputs>
void integer_neurons(const IntegerFfnTask& task) {
  const IntegerLayout layout = layout_of(kInt4, task.d_model, kInputs + 1);
  for (int64_t i = 0; i < task.tokens * task.d_model; ++i) task.y[i] = 0.0f;
  int64_t k = 0;
  for (; k + kIntegerGroup <= task.count; k += kIntegerGroup) {
    integer_group<kInt4, kInputs, kIntegerGroup>(task, layout, k);
  }
  for (; k < task.count; ++k) integer_group<kInt4, kInputs, 1>(task, layout, k);
}

void integer_sparse_ffn(const IntegerFfnTask& task) {
  const bool is_int4 = task.format == BundleFormat::kInt4;
  if (task.bundle_rows == 3) {
    return is_int4 ? integer_neurons<true, 2>(task) : integer_neurons<false, 2>(task);
  }
  is_int4 ? integer_neurons<true, 1>(task) : integer_neurons<false, 1>(task);
}

}  // namespace
}  // namespace glass::internal
