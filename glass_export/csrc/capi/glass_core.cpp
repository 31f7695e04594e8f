// C interface to the core: libglass_core.so. Each function is the C++ function of the same name
// (see the headers in glass/) with spans as pointer and size, and returns a glass::Status.
//
// Scratch memory is allocated here, per call; kNoMemory is returned when there is none. Sizes count
// elements.
#include <algorithm>
#include <memory>
#include <new>

#include "glass/attention.h"
#include "glass/base.h"
#include "glass/ffn.h"
#include "glass/linear.h"
#include "glass/norm.h"
#include "glass/scoring.h"
#include "thread_parallel.h"

#define GLASS_API extern "C" __attribute__((visibility("default")))

namespace {

using glass::Span;
using glass::Status;

template <class T>
Span<T> span(T* data, int64_t size) {
  return {data, size < 0 ? 0 : static_cast<size_t>(size)};
}

// Memory of a call, zero at first; false when there is none.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t size) : data_(new (std::nothrow) T[size]()), size_(size) {}
  explicit operator bool() const { return data_ != nullptr; }
  Span<T> get() { return {data_.get(), size_}; }

 private:
  std::unique_ptr<T[]> data_;
  size_t size_;
};

int32_t code(Status status) { return static_cast<int32_t>(status); }

constexpr int32_t kNoMemory = -1;  // no glass::Status: the core itself allocates nothing
constexpr int32_t kInvalid = static_cast<int32_t>(Status::kInvalidArgument);

// Sizes that scratch can be computed from; the function itself checks the rest.
bool are_sizes(int64_t d_ff, int64_t d_model, int64_t tokens, int64_t threads) {
  return d_ff > 0 && d_model > 0 && tokens > 0 && threads > 0;
}

glass::FfnBundle bundle_of(const void* bundles, int32_t format, int64_t gated, const float* bias,
                           int64_t d_ff, int64_t d_model) {
  const auto form = static_cast<glass::BundleFormat>(format);
  return {bundles, d_ff, d_model, form, gated != 0, bias};
}

}  // namespace

GLASS_API const char* glass_core_status_message(int32_t status) {
  if (status == kNoMemory) return "no memory for scratch";
  return glass::status_message(static_cast<Status>(status));
}

GLASS_API const char* glass_core_isa_name(int32_t isa) {
  return glass::isa_name(static_cast<glass::Isa>(isa));
}

GLASS_API int32_t glass_core_isa_available(int32_t isa) {
  return glass::isa_available(static_cast<glass::Isa>(isa)) ? 1 : 0;
}

GLASS_API int32_t glass_core_active_isa() { return static_cast<int32_t>(glass::active_isa()); }

GLASS_API int32_t glass_core_set_isa(int32_t isa) {
  return code(glass::set_isa(static_cast<glass::Isa>(isa)));
}

GLASS_API int32_t glass_core_check_neurons(const int32_t* neurons, int64_t count, int64_t d_ff) {
  return code(glass::check_neurons(span(neurons, count), d_ff));
}

// bundles [F,3,D], or [F,2,D] of an FFN that is not gated, or [F,bundle_bytes] of integers, bias
// [F] or null, x and y [S,D], neurons [count], which may end in padding.
GLASS_API int32_t glass_core_sparse_ffn(const void* bundles, int32_t format, int64_t gated,
                                        const float* bias, int64_t d_ff, int64_t d_model,
                                        int32_t activation, const float* x, int64_t tokens,
                                        const int32_t* neurons, int64_t count, float* y,
                                        int64_t threads) {
  if (!are_sizes(d_ff, d_model, tokens, threads)) return kInvalid;
  const glass::FfnBundle ffn = bundle_of(bundles, format, gated, bias, d_ff, d_model);
  Scratch<float> scratch(glass::sparse_ffn_scratch(ffn, tokens, threads));
  if (!scratch) return kNoMemory;
  glass::ThreadParallel parallel(threads);
  return code(glass::sparse_ffn(ffn, static_cast<glass::Activation>(activation),
                                span(x, tokens * d_model), span(neurons, count),
                                span(y, tokens * d_model), scratch.get(), parallel.get()));
}

// bundles and bias as above, x and y [S,D], score_weights [S], abs_sum and sq_sum [F].
GLASS_API int32_t glass_core_dense_ffn(const void* bundles, int32_t format, int64_t gated,
                                       const float* bias, int64_t d_ff, int64_t d_model,
                                       int32_t activation, const float* x, int64_t tokens,
                                       const float* score_weights, float* y, float* abs_sum,
                                       float* sq_sum, int64_t threads) {
  if (!are_sizes(d_ff, d_model, tokens, threads)) return kInvalid;
  const glass::FfnBundle ffn = bundle_of(bundles, format, gated, bias, d_ff, d_model);
  Scratch<float> scratch(glass::dense_ffn_scratch(ffn, tokens, threads));
  if (!scratch) return kNoMemory;
  glass::ThreadParallel parallel(threads);
  return code(glass::dense_ffn(ffn, static_cast<glass::Activation>(activation),
                               span(x, tokens * d_model), span(score_weights, tokens),
                               span(y, tokens * d_model), span(abs_sum, d_ff), span(sq_sum, d_ff),
                               scratch.get(), parallel.get()));
}

GLASS_API int64_t glass_core_bundle_bytes(int32_t format, int64_t d_model, int64_t gated) {
  return glass::bundle_bytes(static_cast<glass::BundleFormat>(format), d_model, gated != 0);
}

GLASS_API int64_t glass_core_row_bytes(int32_t format, int64_t depth) {
  return glass::row_bytes(static_cast<glass::BundleFormat>(format), depth);
}

// weights [rows,row_bytes], bias [rows] or null, x [S,depth], y [S,rows].
GLASS_API int32_t glass_core_linear(const void* weights, int32_t format, int64_t rows,
                                    int64_t depth, const float* bias, const float* x,
                                    int64_t tokens, float* y, int64_t threads) {
  if (!are_sizes(rows, depth, tokens, threads)) return kInvalid;
  const glass::LinearWeights linear{weights, rows, depth, static_cast<glass::BundleFormat>(format)};
  Scratch<float> scratch(glass::linear_scratch(linear, tokens, threads));
  if (!scratch) return kNoMemory;
  glass::ThreadParallel parallel(threads);
  return code(glass::linear(linear, span(bias, bias == nullptr ? 0 : rows), span(x, tokens * depth),
                            span(y, tokens * rows), scratch.get(), parallel.get()));
}

// weights [rows,row_bytes], ids [S], y [S,depth].
GLASS_API int32_t glass_core_embedding(const void* weights, int32_t format, int64_t rows,
                                       int64_t depth, const int64_t* ids, int64_t count, float* y) {
  const glass::LinearWeights table{weights, rows, depth, static_cast<glass::BundleFormat>(format)};
  return code(glass::embedding(table, span(ids, count), span(y, count * depth)));
}

// x and y [rows,width], weight [width].
GLASS_API int32_t glass_core_rms_norm(const float* x, const float* weight, int64_t rows,
                                      int64_t width, float eps, float* y) {
  return code(
      glass::rms_norm(span(x, rows * width), span(weight, width), eps, span(y, rows * width)));
}

// x, skip, y and sum [rows,width], weight [width].
GLASS_API int32_t glass_core_add_rms_norm(const float* x, const float* skip, const float* weight,
                                          int64_t rows, int64_t width, float eps, float* y,
                                          float* sum) {
  const int64_t size = rows * width;
  return code(glass::add_rms_norm(span(x, size), span(skip, size), span(weight, width), eps,
                                  span(y, size), span(sum, size)));
}

// query [S,H*E], key and value [S,G*E] without gaps; the rest as in glass/attention.h.
GLASS_API int32_t glass_core_rotary_attention(const glass::AttentionShape* shape,
                                              const glass::AttentionParams* params,
                                              const float* query, const float* key,
                                              const float* value, const float* cos,
                                              const float* sin, float* key_cache,
                                              float* value_cache, float* y, int64_t threads) {
  if (!are_sizes(shape->heads, shape->head_dim, shape->tokens, threads)) return kInvalid;
  const int64_t kv_width = shape->kv_heads * shape->head_dim;
  const int64_t width = shape->heads * shape->head_dim;
  const int64_t angles = shape->cache_len * shape->rotary / 2;
  const int64_t cached = shape->cache_len * kv_width;
  const glass::QkvRows rows{query, key, value, width, kv_width, kv_width};
  Scratch<float> scratch(glass::rotary_attention_scratch(*shape, threads));
  if (!scratch) return kNoMemory;
  glass::ThreadParallel parallel(threads);
  return code(glass::rotary_attention(
      *shape, *params, rows, span(cos, angles), span(sin, angles), span(key_cache, cached),
      span(value_cache, cached), span(y, shape->tokens * width), scratch.get(), parallel.get()));
}

// Sums and scores of any shape, `size` values.
GLASS_API int32_t glass_core_local_scores(const float* abs_sum, const float* sq_sum, double tokens,
                                          int32_t form, int64_t size, float* scores) {
  const glass::TokenSums sums{span(abs_sum, size), span(sq_sum, size), tokens};
  return code(glass::local_scores(sums, static_cast<glass::LocalForm>(form), span(scores, size)));
}

// scores and ranks [F].
GLASS_API int32_t glass_core_ranks(const float* scores, int64_t d_ff, int32_t* ranks) {
  Scratch<uint32_t> scratch(2 * static_cast<size_t>(std::max<int64_t>(d_ff, 0)));
  if (!scratch) return kNoMemory;
  return code(glass::ranks(span(scores, d_ff), span(ranks, d_ff), scratch.get()));
}

// local_ranks, prior_ranks and fused [F].
GLASS_API int32_t glass_core_borda(const int32_t* local_ranks, const int32_t* prior_ranks,
                                   double lam, int64_t d_ff, uint32_t* fused) {
  return code(
      glass::borda(span(local_ranks, d_ff), span(prior_ranks, d_ff), lam, span(fused, d_ff)));
}

// local_mean, prior, fused, and weights or null, of any shape, `size` values.
GLASS_API int32_t glass_core_shrinkage(const float* local_mean, double tokens, const float* prior,
                                       double tau, int64_t size, float* fused,
                                       const double* weights) {
  return code(glass::shrinkage(span(local_mean, size), tokens, span(prior, size), tau,
                               span(fused, size), span(weights, weights == nullptr ? 0 : size)));
}

// effect, activity and weights of any shape, `size` values.
GLASS_API int32_t glass_core_sensitivity_weights(const float* effect, const float* activity,
                                                 double sensitivity, int64_t size,
                                                 double* weights) {
  return code(glass::sensitivity_weights(span(effect, size), span(activity, size), sensitivity,
                                         span(weights, size)));
}

// scores [F], neurons [K].
GLASS_API int32_t glass_core_top_k(const float* scores, int64_t d_ff, int32_t* neurons, int64_t k) {
  Scratch<uint32_t> scratch(2 * static_cast<size_t>(std::max<int64_t>(d_ff, 0)));
  if (!scratch) return kNoMemory;
  return code(glass::top_k(span(scores, d_ff), span(neurons, k), scratch.get()));
}

// The same for scores of glass_core_borda.
GLASS_API int32_t glass_core_top_k_fused(const uint32_t* scores, int64_t d_ff, int32_t* neurons,
                                         int64_t k) {
  Scratch<uint32_t> scratch(2 * static_cast<size_t>(std::max<int64_t>(d_ff, 0)));
  if (!scratch) return kNoMemory;
  return code(glass::top_k(span(scores, d_ff), span(neurons, k), scratch.get()));
}

// abs_sum and sq_sum [L,F], prior and weights [L,F] or null, budgets [L] or null, neurons [L,K].
GLASS_API int32_t glass_core_select_neurons(const float* abs_sum, const float* sq_sum,
                                            double tokens, const float* prior,
                                            const double* weights,
                                            const glass::Selection* selection, int64_t layers,
                                            int64_t d_ff, const int64_t* budgets, int32_t* neurons,
                                            int64_t k, int64_t routed) {
  const int64_t size = layers * d_ff;
  const glass::TokenSums sums{span(abs_sum, size), span(sq_sum, size), tokens};
  glass::Prior known{
      span(prior, prior == nullptr ? 0 : size), {}, span(weights, weights == nullptr ? 0 : size)};
  known.routed = routed != 0;
  Scratch<uint32_t> scratch(d_ff > 0 ? glass::select_neurons_scratch(d_ff) : 0);
  if (!scratch) return kNoMemory;
  return code(glass::select_neurons(sums, known, *selection, layers, d_ff,
                                    span(neurons, layers * k), scratch.get(), glass::serial(),
                                    span(budgets, budgets == nullptr ? 0 : layers)));
}
