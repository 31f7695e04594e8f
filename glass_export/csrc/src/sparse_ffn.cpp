#include <algorithm>

#include "ffn_check.h"
#include "glass/ffn.h"
#include "glass/linear.h"
#include "internal.h"

namespace glass {

namespace {

using internal::Scratch;

// One thread's task, of SparseFfnTask or IntegerFfnTask, but for weights and x.
template <class Task>
Task task_of(const FfnBundle& ffn, Activation activation, Span<const int32_t> neurons,
             internal::Part part, int64_t tokens, float* y) {
  Task task;
  task.bundle_rows = bundle_rows(ffn.gated);
  task.bias = ffn.bias;
  task.neurons = neurons.data + part.begin;
  task.count = part.end - part.begin;
  task.d_model = ffn.d_model;
  task.activation = activation;
  task.tokens = tokens;
  task.y = y;
  return task;
}

}  // namespace

int64_t bundle_rows(bool gated) { return gated ? 3 : 2; }

int64_t bundle_bytes(BundleFormat format, int64_t d_model, bool gated) {
  const int64_t rows = bundle_rows(gated);
  if (format == BundleFormat::kFloat32) return rows * d_model * int64_t{sizeof(float)};
  return internal::ceil_to(rows * row_bytes(format, d_model) + kOutliers * kOutlierBytes,
                           internal::kLineFloats * int64_t{sizeof(float)});
}

bool bundle_format(int64_t bytes, int64_t d_model, BundleFormat& format, bool gated) {
  for (const BundleFormat each : {BundleFormat::kInt8, BundleFormat::kInt4}) {
    format = each;
    if (d_model > 0 && d_model % kGroupSize == 0 && bytes == bundle_bytes(each, d_model, gated)) {
      return true;
    }
  }
  return false;
}

Span<const int32_t> without_padding(Span<const int32_t> neurons) {
  if (neurons.size == 0 || neurons[neurons.size - 1] != kNeuronPadding) return neurons;
  const auto is_neuron = [](int32_t neuron) { return neuron != kNeuronPadding; };
  const int32_t* const padding = std::partition_point(neurons.begin(), neurons.end(), is_neuron);
  bool others = false;  // without branches, so that the compiler can use vectors
  for (const int32_t* entry = padding; entry != neurons.end(); ++entry) others |= is_neuron(*entry);
  return others ? neurons
                : Span<const int32_t>(neurons.data, static_cast<size_t>(padding - neurons.begin()));
}

Status check_neurons(Span<const int32_t> neurons, int64_t d_ff) {
  if (neurons.data == nullptr || neurons.size == 0 || d_ff <= 0) return Status::kInvalidArgument;
  neurons = without_padding(neurons);
  if (neurons.size == 0) return Status::kPaddingMisplaced;
  bool outside = false, unsorted = false;  // without branches, as above
  for (size_t k = 0; k < neurons.size; ++k) outside |= neurons[k] < 0 || neurons[k] >= d_ff;
  for (size_t k = 1; k < neurons.size; ++k) unsorted |= neurons[k] <= neurons[k - 1];
  if (outside) {
    const auto* const padding = std::find(neurons.begin(), neurons.end(), kNeuronPadding);
    return padding != neurons.end() ? Status::kPaddingMisplaced : Status::kIndexOutOfRange;
  }
  return unsorted ? Status::kIndexNotAscending : Status::kOk;
}

// The first thread sums into y, every other one into an array of its own.
size_t sparse_ffn_scratch(const FfnBundle& ffn, int64_t tokens, int64_t threads) {
  const int64_t sums = (threads - 1) * Scratch::cost(tokens * ffn.d_model);
  return static_cast<size_t>(Scratch::kSlack + sums +
                             internal::quantised_cost(ffn.format, tokens, ffn.d_model));
}

Status sparse_ffn(const FfnBundle& ffn, Activation activation, Span<const float> x,
                  Span<const int32_t> neurons, Span<float> y, Span<float> scratch,
                  const Parallel& parallel) {
  if (!internal::is_valid(ffn) || !internal::is_valid(activation) ||
      !internal::is_valid(parallel) || !internal::are_tokens(ffn, x, y)) {
    return Status::kInvalidArgument;
  }
  const Status checked = check_neurons(neurons, ffn.d_ff);
  if (checked != Status::kOk) return checked;
  neurons = without_padding(neurons);
  const auto size = static_cast<int64_t>(x.size), count = static_cast<int64_t>(neurons.size);
  const int64_t tokens = size / ffn.d_model;
  const int64_t threads = std::min(parallel.threads, count);
  const bool is_float = internal::is_float(ffn);
  if ((threads > 1 || !is_float) && scratch.size < sparse_ffn_scratch(ffn, tokens, threads)) {
    return Status::kScratchTooSmall;
  }
  const internal::Kernels& kernels = internal::kernels();
  Scratch memory(scratch);
  float* others = threads > 1 ? memory.take((threads - 1) * Scratch::cost(size)) : nullptr;
  const auto sum_of = [&](int64_t i) {
    return i == 0 ? y.data : others + (i - 1) * Scratch::cost(size);
  };
  internal::QuantisedTokens quantised;
  if (!is_float) {
    quantised = internal::quantise(ffn.format, {x.data, tokens, ffn.d_model}, serial(), memory);
  }
  internal::parallel_for(parallel, threads, [&](int64_t i) {
    const internal::Part part = internal::part_of(count, threads, i);
    if (is_float) {
      auto task =
          task_of<internal::SparseFfnTask>(ffn, activation, neurons, part, tokens, sum_of(i));
      task.bundles = internal::float_bundles(ffn);
      task.x = x.data;
      return kernels.sparse_ffn(task);
    }
    auto task =
        task_of<internal::IntegerFfnTask>(ffn, activation, neurons, part, tokens, sum_of(i));
    task.format = ffn.format;
    task.bundles = internal::integer_bundles(ffn);
    task.x = quantised;
    internal::integer_kernels().sparse_ffn(task);
  });
  for (int64_t i = 1; i < threads; ++i) kernels.add(y.data, sum_of(i), size);
  return Status::kOk;
}

}  // namespace glass
