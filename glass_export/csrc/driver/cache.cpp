#include "driver/cache.h"

#include <algorithm>
#include <utility>

namespace glass {
namespace {

bool any(const std::vector<float>& weights, size_t start, size_t stop) {
  const auto first = weights.begin() + static_cast<std::ptrdiff_t>(start);
  const auto last = weights.begin() + static_cast<std::ptrdiff_t>(stop);
  return std::any_of(first, last, [](float weight) { return weight != 0; });
}

}  // namespace

int64_t TokenCache::rewind(Span<const int64_t> tokens, Span<const float> weights) {
  const size_t most = std::min(tokens_.size(), tokens.size - 1);
  size_t length = 0;
  while (length < most && tokens_[length] == tokens[length] &&
         weights_[length] == weights[length]) {
    ++length;
  }
  for (const Chunk& chunk : chunks_) {
    const bool cut = chunk.start < length && length < chunk.stop;
    if (cut && any(weights_, chunk.start, length)) length = chunk.start;
  }
  truncate(static_cast<int64_t>(length));
  return static_cast<int64_t>(length);
}

void TokenCache::truncate(int64_t length) {
  const auto size = static_cast<size_t>(length);
  tokens_.resize(size);
  weights_.resize(size);
  const auto reaches_past = [size](const Chunk& chunk) { return chunk.stop > size; };
  chunks_.erase(std::remove_if(chunks_.begin(), chunks_.end(), reaches_past), chunks_.end());
}

void TokenCache::prefilled(Span<const int64_t> tokens, Span<const float> weights, LocalSums sums) {
  const size_t start = tokens_.size();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
  if (sums.tokens > 0) chunks_.push_back({start, tokens_.size(), std::move(sums)});
}

void TokenCache::answered(Span<const int64_t> tokens) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  weights_.resize(tokens_.size());
}

LocalSums TokenCache::sums(size_t neurons) const {
  LocalSums total(neurons);
  for (const Chunk& chunk : chunks_) total.add(chunk.sums);
  return total;
}

}  // namespace glass
