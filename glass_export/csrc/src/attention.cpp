#include "glass/attention.h"

#include <cmath>

#include "internal.h"

namespace glass {
namespace {

using internal::AttendTask;
using internal::kQueryBlock;
using internal::kQueryTokens;
using internal::Scratch;

// Below so many floats of new keys a second thread costs more than it saves.
constexpr int64_t kSerialKeys = 1 << 15;

bool is_valid(const AttentionShape& shape) {
  return shape.tokens > 0 && shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0 &&
         shape.cache_len > 0 && shape.heads % shape.kv_heads == 0 && shape.rotary >= 0 &&
         shape.rotary <= shape.head_dim && shape.rotary % 2 == 0;
}

bool is_valid(const AttentionParams& params) {
  return params.position >= 0 && params.window >= 0 && params.softcap >= 0.0f &&
         std::isfinite(params.softcap) && std::isfinite(params.scale);
}

bool is_valid(const QkvRows& rows) {
  return rows.query != nullptr && rows.key != nullptr && rows.value != nullptr;
}

// Everything one call works on.
struct Attention {
  const AttentionShape& shape;
  const AttentionParams& params;
  const QkvRows& rows;
  const float* cos;
  const float* sin;
  float* key_cache;
  float* value_cache;
  float* y;
  const internal::Kernels& kernels;

  int64_t group() const { return shape.heads / shape.kv_heads; }

  // Tokens of a block: as many as fit into kQueryBlock rows beside the heads of a group.
  int64_t block_tokens() const {
    return std::clamp<int64_t>(kQueryBlock / group(), 1, kQueryTokens);
  }

  int64_t blocks() const { return (shape.tokens + block_tokens() - 1) / block_tokens(); }

  int64_t cache_offset(int64_t head, int64_t position) const {
    return (head * shape.cache_len + position) * shape.head_dim;
  }
};

// y = scale * x, rotated by the angles of a position. Source: Su et al. 2021, "RoFormer"; halves
// layout of Hugging Face's rotate_half.
void rotate(const Attention& call, int64_t token, float scale, const float* x, float* y) {
  const int64_t half = call.shape.rotary / 2, position = call.params.position + token;
  const float* cos = call.cos + position * half;
  const float* sin = call.sin + position * half;
  for (int64_t i = 0; i < half; ++i) {
    const float first = x[i], second = x[half + i];
    y[i] = scale * (first * cos[i] - second * sin[i]);
    y[half + i] = scale * (second * cos[i] + first * sin[i]);
  }
  for (int64_t i = 2 * half; i < call.shape.head_dim; ++i) y[i] = scale * x[i];
}

void write_cache(const Attention& call, int64_t token) {
  const int64_t width = call.shape.head_dim;
  const float* key = call.rows.key + token * call.rows.key_stride;
  const float* value = call.rows.value + token * call.rows.value_stride;
  for (int64_t head = 0; head < call.shape.kv_heads; ++head) {
    const int64_t offset = call.cache_offset(head, call.params.position + token);
    rotate(call, token, 1.0f, key + head * width, call.key_cache + offset);
    std::copy_n(value + head * width, width, call.value_cache + offset);
  }
}

void write_caches(const Attention& call, const Parallel& parallel) {
  const int64_t tokens = call.shape.tokens;
  const int64_t size = tokens * call.shape.kv_heads * call.shape.head_dim;
  const int64_t parts = size < kSerialKeys ? 1 : parallel.threads;
  internal::parallel_for(parallel, parts, [&](int64_t i) {
    const internal::Part part = internal::part_of(tokens, parts, i);
    for (int64_t token = part.begin; token < part.end; ++token) write_cache(call, token);
  });
}

// Heads [head, head + heads) of one group for one block of tokens.
void attend(const Attention& call, int64_t block, int64_t head, int64_t heads, Scratch scratch) {
  const int64_t width = call.shape.head_dim, first = block * call.block_tokens();
  AttendTask task;
  float* queries = scratch.take(kQueryBlock * width);
  task.queries = queries;
  task.heads = heads;
  task.tokens = std::min(call.block_tokens(), call.shape.tokens - first);
  for (int64_t h = head; h < head + heads; ++h) {
    for (int64_t t = first; t < first + task.tokens; ++t, queries += width) {
      const float* query = call.rows.query + t * call.rows.query_stride + h * width;
      rotate(call, t, call.params.scale, query, queries);
    }
  }
  task.head_dim = width;
  task.keys = call.key_cache + call.cache_offset(head / call.group(), 0);
  task.values = call.value_cache + call.cache_offset(head / call.group(), 0);
  task.position = call.params.position + first;
  task.window = call.params.window;
  task.softcap = call.params.softcap;
  task.y_stride = call.shape.heads * width;
  task.y = call.y + first * task.y_stride + head * width;
  task.scratch = scratch.take(internal::attend_scratch(width));
  call.kernels.attend(task);
}

// The i-th of `blocks`, ordered so that any run of them is about as much work as another: a late
// block, which sees many keys, follows an early one.
int64_t interleaved(int64_t i, int64_t blocks) { return i % 2 == 0 ? i / 2 : blocks - 1 - i / 2; }

// A thread's share of all (block, head) pairs; heads of one group attend together.
void attend_share(const Attention& call, internal::Part share, Scratch scratch) {
  const int64_t heads = call.shape.heads;
  for (int64_t i = share.begin; i < share.end;) {
    const int64_t head = i % heads;
    const int64_t rest = std::min(share.end - i, call.group() - head % call.group());
    const int64_t count = std::min(rest, kQueryBlock);
    attend(call, interleaved(i / heads, call.blocks()), head, count, scratch);
    i += count;
  }
}

int64_t thread_scratch(int64_t head_dim) {
  return Scratch::cost(kQueryBlock * head_dim) + Scratch::cost(internal::attend_scratch(head_dim));
}

}  // namespace

size_t rotary_attention_scratch(const AttentionShape& shape, int64_t threads) {
  return static_cast<size_t>(Scratch::kSlack + threads * thread_scratch(shape.head_dim));
}

Status rotary_attention(const AttentionShape& shape, const AttentionParams& params,
                        const QkvRows& rows, Span<const float> cos, Span<const float> sin,
                        Span<float> key_cache, Span<float> value_cache, Span<float> y,
                        Span<float> scratch, const Parallel& parallel) {
  using internal::has_size;
  if (!is_valid(shape) || !is_valid(params) || !is_valid(rows) || !internal::is_valid(parallel)) {
    return Status::kInvalidArgument;
  }
  const int64_t angles = shape.cache_len * shape.rotary / 2;
  const int64_t cached = shape.kv_heads * shape.cache_len * shape.head_dim;
  if (!has_size(cos, angles) || !has_size(sin, angles) || !has_size(key_cache, cached) ||
      !has_size(value_cache, cached) || !has_size(y, shape.tokens * shape.heads * shape.head_dim)) {
    return Status::kInvalidArgument;
  }
  if (params.position > shape.cache_len - shape.tokens) return Status::kContextFull;
  if (scratch.size < rotary_attention_scratch(shape, parallel.threads)) {
    return Status::kScratchTooSmall;
  }
  const Attention call{shape,          params,           rows,   cos.data,           sin.data,
                       key_cache.data, value_cache.data, y.data, internal::kernels()};
  write_caches(call, parallel);
  Scratch memory(scratch);
  float* own = memory.take(0);
  const int64_t size = thread_scratch(shape.head_dim);
  const int64_t pairs = call.blocks() * shape.heads;
  const int64_t threads = std::min(parallel.threads, pairs);
  internal::parallel_for(parallel, threads, [&](int64_t i) {
    const Span<float> memory_of_thread(own + i * size, static_cast<size_t>(size));
    attend_share(call, internal::part_of(pairs, threads, i), Scratch(memory_of_thread));
  });
  return Status::kOk;
}

}  // namespace glass
