// Norms and attention for ExecuTorch; schemas as in glass_export/ops/kernels.py.
#include "glass/attention.h"

#include <optional>

#include "executorch/adapter.h"
#include "glass/norm.h"

namespace glass::executorch_ops {
namespace {

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

EXECUTORCH_LIBRARY(glass, "rms_norm.out", rms_norm_out);
EXECUTORCH_LIBRARY(glass, "add_rms_norm.out", add_rms_norm_out);
EXECUTORCH_LIBRARY(glass, "rotary_attention.out", rotary_attention_out);

}  // namespace
}  // namespace glass::executorch_ops
