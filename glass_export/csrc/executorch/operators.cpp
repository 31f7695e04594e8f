// The glass operators for ExecuTorch: argument checks and scratch memory around the native core.
// Schemas are those of glass_export/ops/kernels.py.
//
// ExecuTorch's registration takes one `Tensor&` output, the last argument. A tensor is a handle, so
// all other outputs and the caches are passed as `const Tensor&` and written all the same.
#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/kernel/kernel_includes.h>
#include <executorch/runtime/kernel/thread_parallel_interface.h>

#include <optional>

#include "glass/attention.h"
#include "glass/ffn.h"
#include "glass/norm.h"

namespace glass::executorch_ops {
namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using Context = executorch::runtime::KernelRuntimeContext;

void run_on_pool(void*, int64_t count, Parallel::Task task, void* arg) {
  executorch::extension::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(arg, i);
  });
}

Parallel thread_pool() {
  const int64_t threads = executorch::extension::get_thread_count();
  return {nullptr, threads > 0 ? threads : 1, run_on_pool};
}

template <class T>
Span<const T> read(const Tensor& tensor) {
  return {tensor.const_data_ptr<T>(), static_cast<size_t>(tensor.numel())};
}

Span<float> write(const Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

int64_t last_size(const Tensor& tensor) { return tensor.size(tensor.dim() - 1); }

bool floats(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (tensor->scalar_type() != ScalarType::Float || tensor->dim() < 1) return false;
  }
  return true;
}

// Fails the method call unless `ok`; the runtime then returns InvalidArgument to its caller.
bool require(Context& context, bool ok, const char* what) {
  if (!ok) {
    ET_LOG(Error, "glass: %s", what);
    context.fail(Error::InvalidArgument);
  }
  return ok;
}

bool require(Context& context, Status status) {
  return require(context, status == Status::kOk, status_message(status));
}

using Sizes = executorch::aten::ArrayRef<executorch::aten::SizesType>;

bool resize(Context& context, const Tensor& out, Sizes sizes) {
  return require(context, executorch::runtime::resize_tensor(out, sizes) == Error::Ok,
                 "the output does not fit the memory planned for it");
}

bool scratch(Context& context, size_t count, Span<float>& out) {
  if (count == 0) return true;
  auto memory = context.allocate_temp(count * sizeof(float), 64);
  if (!require(context, memory.ok(), "no temporary memory")) return false;
  out = {static_cast<float*>(memory.get()), count};
  return true;
}

bool bundle_of(Context& context, const Tensor& x, const Tensor& bundle, FfnBundle& out) {
  const bool fits = floats({&x, &bundle}) && bundle.dim() == 3 && bundle.size(1) == 3 &&
                    bundle.size(2) == last_size(x);
  out = {fits ? bundle.const_data_ptr<float>() : nullptr, bundle.size(0), last_size(x)};
  return require(context, fits, "ffn: expected float32 x [..,D] and bundle [F,3,D]");
}

void sparse_ffn_out(Context& context, const Tensor& x, const Tensor& bundle, const Tensor& indices,
                    int64_t layer, int64_t activation, Tensor& out) {
  FfnBundle ffn;
  Span<float> memory;
  if (!bundle_of(context, x, bundle, ffn) || !resize(context, out, x.sizes())) return;
  const bool fits = indices.scalar_type() == ScalarType::Int && indices.dim() == 2 && layer >= 0 &&
                    layer < indices.size(0);
  if (!require(context, fits, "sparse_ffn: expected int32 indices [L,K] and a layer below L"))
    return;
  const Parallel parallel = thread_pool();
  const size_t kept = static_cast<size_t>(indices.size(1));
  const Span<const int32_t> neurons{indices.const_data_ptr<int32_t>() + layer * kept, kept};
  const int64_t tokens = x.numel() / ffn.d_model;
  if (!scratch(context, sparse_ffn_scratch(ffn, tokens, parallel.threads), memory)) return;
  require(context, sparse_ffn(ffn, static_cast<Activation>(activation), read<float>(x), neurons,
                              write(out), memory, parallel));
}

void dense_ffn_out(Context& context, const Tensor& x, const Tensor& bundle,
                   const Tensor& score_weights, int64_t activation, const Tensor& out,
                   const Tensor& abs_sum, Tensor& sq_sum) {
  FfnBundle ffn;
  Span<float> memory;
  if (!bundle_of(context, x, bundle, ffn) || !resize(context, out, x.sizes())) return;
  const int64_t tokens = x.numel() / ffn.d_model;
  const bool fits = floats({&score_weights}) && score_weights.numel() == tokens;
  if (!require(context, fits, "dense_ffn: expected one float32 score weight a token")) return;
  const Parallel parallel = thread_pool();
  if (!scratch(context, dense_ffn_scratch(ffn, tokens, parallel.threads), memory)) return;
  require(context, dense_ffn(ffn, static_cast<Activation>(activation), read<float>(x),
                             read<float>(score_weights), write(out), write(abs_sum), write(sq_sum),
                             memory, parallel));
}

void rms_norm_out(Context& context, const Tensor& x, const Tensor& weight, double eps,
                  Tensor& out) {
  if (!require(context, floats({&x, &weight}), "rms_norm: expected float32")) return;
  if (!resize(context, out, x.sizes())) return;
  require(context,
          rms_norm(read<float>(x), read<float>(weight), static_cast<float>(eps), write(out)));
}

void add_rms_norm_out(Context& context, const Tensor& x, const Tensor& skip, const Tensor& weight,
                      double eps, const Tensor& out, Tensor& sum) {
  if (!require(context, floats({&x, &skip, &weight}), "add_rms_norm: expected float32")) return;
  if (!resize(context, out, x.sizes()) || !resize(context, sum, x.sizes())) return;
  require(context, add_rms_norm(read<float>(x), read<float>(skip), read<float>(weight),
                                static_cast<float>(eps), write(out), write(sum)));
}

// Query, key and value rows: three matrices, or parts of the first one.
QkvRows rows_of(const Tensor& query, const std::optional<Tensor>& key,
                const std::optional<Tensor>& value, int64_t query_width, int64_t kv_width) {
  const float* data = query.const_data_ptr<float>();
  if (key.has_value() && value.has_value()) {
    return {data,
            key->const_data_ptr<float>(),
            value->const_data_ptr<float>(),
            last_size(query),
            last_size(*key),
            last_size(*value)};
  }
  const int64_t stride = last_size(query);
  return {data, data + query_width, data + query_width + kv_width, stride, stride, stride};
}

bool rows_fit(const Tensor& query, const std::optional<Tensor>& key,
              const std::optional<Tensor>& value, int64_t query_width, int64_t kv_width) {
  if (key.has_value() != value.has_value()) return false;
  if (!key.has_value()) return last_size(query) == query_width + 2 * kv_width;
  return floats({&*key, &*value}) && last_size(query) == query_width &&
         last_size(*key) == kv_width && last_size(*value) == kv_width &&
         key->numel() / kv_width == query.numel() / query_width && value->numel() == key->numel();
}

void rotary_attention_out(Context& context, const Tensor& query, const std::optional<Tensor>& key,
                          const std::optional<Tensor>& value, const Tensor& key_cache,
                          const Tensor& value_cache, const Tensor& position, const Tensor& cos,
                          const Tensor& sin, int64_t heads, double scale, int64_t window,
                          double softcap, Tensor& out) {
  const bool typed = floats({&query, &key_cache, &value_cache, &cos, &sin}) && query.dim() == 3 &&
                     key_cache.dim() == 4 && key_cache.numel() == value_cache.numel() &&
                     position.scalar_type() == ScalarType::Long && position.numel() == 1;
  if (!require(context, typed, "rotary_attention: wrong type or rank of an argument")) return;
  const int64_t kv_heads = key_cache.size(1), head_dim = key_cache.size(3);
  const int64_t query_width = heads * head_dim, kv_width = kv_heads * head_dim;
  if (!require(context, rows_fit(query, key, value, query_width, kv_width),
               "rotary_attention: query, key and value do not fit the cache")) {
    return;
  }
  using Size = executorch::aten::SizesType;
  const Size sizes[] = {1, static_cast<Size>(query.size(1)), static_cast<Size>(query_width)};
  const AttentionShape shape{query.size(1),     heads, kv_heads, head_dim, key_cache.size(2),
                             2 * last_size(cos)};
  const AttentionParams params{*position.const_data_ptr<int64_t>(), static_cast<float>(scale),
                               window, static_cast<float>(softcap)};
  const Parallel parallel = thread_pool();
  Span<float> memory;
  if (!resize(context, out, {sizes, 3}) ||
      !scratch(context, rotary_attention_scratch(shape, parallel.threads), memory)) {
    return;
  }
  require(context,
          rotary_attention(shape, params, rows_of(query, key, value, query_width, kv_width),
                           read<float>(cos), read<float>(sin), write(key_cache), write(value_cache),
                           write(out), memory, parallel));
}

EXECUTORCH_LIBRARY(glass, "sparse_ffn.out", sparse_ffn_out);
EXECUTORCH_LIBRARY(glass, "dense_ffn.out", dense_ffn_out);
EXECUTORCH_LIBRARY(glass, "rms_norm.out", rms_norm_out);
EXECUTORCH_LIBRARY(glass, "add_rms_norm.out", add_rms_norm_out);
EXECUTORCH_LIBRARY(glass, "rotary_attention.out", rotary_attention_out);

}  // namespace
}  // namespace glass::executorch_ops
