// The FFN of chosen neurons, read in place: memory-bound matrix-vector products.
//
// Neurons go in groups of kGroup: the dot products of their input rows (gate and up, or up alone
// where the FFN is plain; kInputs of them) in one pass over x,
// then one pass over y adds their down rows. Meanwhile the bundles of the next group are fetched,
// one line for each line used, because chosen bundles are short and scattered: the hardware's
// prefetchers stop at every gap.
#pragma once

#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/tile.h"

namespace glass::internal {
namespace {

constexpr int kGroup = 4;

struct Group {
  const float* bundle[kGroup];
  const float* next[kGroup];  // bundles to fetch meanwhile
};

template <int kInputs, int kCount>
inline void input_step(const Group& group, int64_t d_model, int64_t d, Vec x,
                       Vec (&sums)[kCount][kInputs]) {
  GLASS_UNROLL
  for (int n = 0; n < kCount; ++n) {
    GLASS_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      sums[n][i] = fma(load(group.bundle[n] + i * d_model + d), x, sums[n][i]);
    }
  }
}

// products[i][n] = input row i . x of kCount neurons.
template <int kInputs, int kCount>
inline void multiply_inputs(const Group& group, int64_t d_model, const float* x,
                            float (&products)[kInputs][kMaxLanes]) {
  Vec sums[kCount][kInputs];
  for (int n = 0; n < kCount; ++n) {
    for (int i = 0; i < kInputs; ++i) sums[n][i] = zero();
  }
  int64_t d = 0;
  for (; d + kLine <= d_model; d += kLine) {
    GLASS_UNROLL
    for (int n = 0; n < kCount; ++n) {
      GLASS_UNROLL
      for (int i = 0; i < kInputs; ++i) prefetch(group.next[n] + i * d_model + d);
    }
    GLASS_UNROLL
    for (int64_t i = 0; i < kLine; i += kLanes) {
      input_step<kInputs, kCount>(group, d_model, d + i, load(x + d + i), sums);
    }
  }
  for (; d + kLanes <= d_model; d += kLanes) {
    input_step<kInputs, kCount>(group, d_model, d, load(x + d), sums);
  }
  if (const int64_t tail = d_model - d; tail > 0) {
    const Vec last = load_first(x + d, tail);
    for (int n = 0; n < kCount; ++n) {
      const float* row = group.bundle[n] + d;
      for (int i = 0; i < kInputs; ++i) {
        sums[n][i] = fma(load_first(row + i * d_model, tail), last, sums[n][i]);
      }
    }
  }
  for (int n = 0; n < kCount; ++n) {
    for (int i = 0; i < kInputs; ++i) products[i][n] = sum(sums[n][i]);
  }
}

template <int kCount>
inline Vec down_step(const Group& group, int64_t offset, const Vec (&h)[kCount], Vec y) {
  GLASS_UNROLL
  for (int n = 0; n < kCount; ++n) y = fma(load(group.bundle[n] + offset), h[n], y);
  return y;
}

// y += sum_n h[n] down row n.
template <int kInputs, int kCount>
inline void add_down(const Group& group, int64_t d_model, const float* hidden, float* y) {
  Vec h[kCount];
  for (int n = 0; n < kCount; ++n) h[n] = broadcast(hidden[n]);
  const int64_t down = kInputs * d_model;
  int64_t d = 0;
  for (; d + kLine <= d_model; d += kLine) {
    GLASS_UNROLL
    for (int n = 0; n < kCount; ++n) prefetch(group.next[n] + down + d);
    GLASS_UNROLL
    for (int64_t i = 0; i < kLine; i += kLanes) {
      store(y + d + i, down_step<kCount>(group, down + d + i, h, load(y + d + i)));
    }
  }
  for (; d + kLanes <= d_model; d += kLanes) {
    store(y + d, down_step<kCount>(group, down + d, h, load(y + d)));
  }
  if (const int64_t tail = d_model - d; tail > 0) {
    Vec last = load_first(y + d, tail);
    for (int n = 0; n < kCount; ++n) {
      last = fma(load_first(group.bundle[n] + down + d, tail), h[n], last);
    }
    store_first(y + d, last, tail);
  }
}

inline int64_t neuron_of(const SparseFfnTask& task, int64_t k) {
  return task.neurons == nullptr ? k : task.neurons[k];
}

template <int kInputs, int kCount>
inline void ffn_group(const SparseFfnTask& task, const Group& group, int64_t first) {
  float biases[kMaxLanes] = {};
  for (int n = 0; task.bias != nullptr && n < kCount; ++n) {
    biases[n] = task.bias[neuron_of(task, first + n)];
  }
  for (int64_t t = 0; t < task.tokens; ++t) {
    float products[kInputs][kMaxLanes] = {}, hidden[kMaxLanes];
    multiply_inputs<kInputs, kCount>(group, task.d_model, task.x + t * task.d_model, products);
    store(hidden, hidden_vec<kInputs>(task.activation, products, biases));
    add_down<kInputs, kCount>(group, task.d_model, hidden, task.y + t * task.d_model);
    if (task.hidden == nullptr) continue;
    float* kept = task.hidden + first * task.hidden_stride + t;
    for (int n = 0; n < kCount; ++n) kept[n * task.hidden_stride] = hidden[n];
  }
}

inline const float* bundle_of(const SparseFfnTask& task, int64_t k) {
  return task.bundles + neuron_of(task, k) * task.bundle_rows * task.d_model;
}

// Bundles [first, first + count) and those after them; at the end the last one again.
inline Group group_at(const SparseFfnTask& task, int64_t first, int64_t count) {
  Group group;
  for (int64_t n = 0; n < count; ++n) {
    group.bundle[n] = bundle_of(task, first + n);
    group.next[n] = bundle_of(task, smaller(first + count + n, task.count - 1));
  }
  return group;
}

template <int kInputs>
void sparse_ffn_of(const SparseFfnTask& task) {
  for (int64_t i = 0; i < task.tokens * task.d_model; ++i) task.y[i] = 0.0f;
  int64_t k = 0;
  for (; k + kGroup <= task.count; k += kGroup) {
    ffn_group<kInputs, kGroup>(task, group_at(task, k, kGroup), k);
  }
  for (; k < task.count; ++k) ffn_group<kInputs, 1>(task, group_at(task, k, 1), k);
}

void sparse_ffn(const SparseFfnTask& task) {
  if (task.bundle_rows == 3) return sparse_ffn_of<2>(task);
  sparse_ffn_of<1>(task);
}

}  // namespace
}  // namespace glass::internal
