// Causal grouped-query attention over a fixed-size key/value cache, with rotary embedding.
//
// Legend: S new tokens, H query heads, G key/value heads, E head width, C cache length, R rotated
// width. All arrays are float32.
#pragma once

#include "glass/base.h"

namespace glass {

struct AttentionShape {
  int64_t tokens = 0;     // S
  int64_t heads = 0;      // H, a multiple of G
  int64_t kv_heads = 0;   // G
  int64_t head_dim = 0;   // E
  int64_t cache_len = 0;  // C
  int64_t rotary = 0;     // R, even, at most E; channels R..E-1 are not rotated
};

struct AttentionParams {
  int64_t position = 0;  // cache position of the first token; 0 <= position, position + S <= C
  float scale = 1.0f;    // factor of the logits
  int64_t window = 0;    // sliding window in tokens, the token itself included; 0 for none
  float softcap = 0.0f;  // logits become softcap * tanh(logit / softcap); 0 for none
};

// Where the rows of one token begin: row t of the query is query + t * query_stride, and so on, so
// that query, key and value may be separate matrices or parts of one.
struct QkvRows {
  const float* query = nullptr;  // [H*E] a row
  const float* key = nullptr;    // [G*E] a row
  const float* value = nullptr;  // [G*E] a row
  int64_t query_stride = 0;
  int64_t key_stride = 0;
  int64_t value_stride = 0;
};

// Floats of scratch that rotary_attention needs on `threads` threads.
size_t rotary_attention_scratch(const AttentionShape& shape, int64_t threads);

// Rotate query and key by the angles of their positions (two-halves layout, tables cos and sin
// [C,R/2]), write key and value into the caches [G,C,E] at `position`, and attend causally:
// token t sees the cache positions p <= position + t, with a window only those above
// position + t - window. y [S,H*E].
//
// kContextFull when position + S > C; nothing is written then.
Status rotary_attention(const AttentionShape& shape, const AttentionParams& params,
                        const QkvRows& rows, Span<const float> cos, Span<const float> sin,
                        Span<float> key_cache, Span<float> value_cache, Span<float> y,
                        Span<float> scratch, const Parallel& parallel);

}  // namespace glass
