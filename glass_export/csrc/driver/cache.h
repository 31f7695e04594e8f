// What the engine's key/value cache holds, and which sums belong to it. As
// glass_export/runtime/cache.py.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/local_sums.h"
#include "glass/base.h"

namespace glass {

// The tokens at positions 0..n-1, their score weights, and the sums of each chunk.
//
// Invariant: the chunks' sums are those of exactly the tokens whose weight is not 0. Tokens of an
// answer carry none; what a refresh adds up over them ends with the answer and is kept apart.
class TokenCache {
 public:
  const std::vector<int64_t>& tokens() const { return tokens_; }
  int64_t length() const { return static_cast<int64_t>(tokens_.size()); }

  // Drops what a new prompt cannot reuse; returns the length of what stays: the longest common
  // beginning, tokens and weights, short of the prompt's last token (whose logits are needed). A
  // chunk that it would cut in two is dropped from its start, since its sums cannot be cut, unless
  // none of the part that stays was scored.
  int64_t rewind(Span<const int64_t> tokens, Span<const float> weights);

  // Forgets positions from `length` on, with the sums of chunks that reach past it.
  void truncate(int64_t length);

  // Notes that a prefill call has appended tokens.
  void prefilled(Span<const int64_t> tokens, Span<const float> weights, LocalSums sums);

  // Notes that tokens of an answer have been appended, by a decode call or a refresh.
  void answered(Span<const int64_t> tokens);

  // Sums over all scored tokens, of a model with so many neurons.
  LocalSums sums(size_t neurons) const;

 private:
  struct Chunk {
    size_t start, stop;
    LocalSums sums;
  };

  std::vector<int64_t> tokens_;
  std::vector<float> weights_;
  std::vector<Chunk> chunks_;
};

}  // namespace glass
