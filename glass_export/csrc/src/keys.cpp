#include "keys.h"

#include <algorithm>

namespace glass::internal {
namespace {

constexpr int kDigitBits = 11;
constexpr int kDigits = 3;  // 33 bits for keys of 32
constexpr uint32_t kBuckets = 1u << kDigitBits;

uint32_t digit_of(uint32_t key, int digit) { return key >> (digit * kDigitBits) & (kBuckets - 1); }

// counts[digit][bucket] to the positions where the buckets begin.
void make_offsets(uint32_t (&counts)[kDigits][kBuckets]) {
  for (auto& buckets : counts) {
    uint32_t offset = 0;
    for (uint32_t& bucket : buckets) {
      const uint32_t count = bucket;
      bucket = offset;
      offset += count;
    }
  }
}

}  // namespace

// A stable radix sort of the indices. They go in backwards, so that of equal keys the higher index
// gets the lower rank. The last digit travels with the index, which has the bits below it.
void rank_keys(const uint32_t* keys, int64_t count, uint32_t* order, int32_t* ranks) {
  constexpr int kIndexBits = 32 - kDigitBits;
  uint32_t offsets[kDigits][kBuckets] = {};
  for (int64_t j = 0; j < count; ++j) {
    for (int d = 0; d < kDigits; ++d) ++offsets[d][digit_of(keys[j], d)];
  }
  make_offsets(offsets);
  for (int64_t j = count - 1; j >= 0; --j) {
    order[offsets[0][digit_of(keys[j], 0)]++] = static_cast<uint32_t>(j);
  }
  auto* by_two_digits = reinterpret_cast<uint32_t*>(ranks);  // not the ranks yet
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t j = order[i], key = keys[j];
    by_two_digits[offsets[1][digit_of(key, 1)]++] = digit_of(key, 2) << kIndexBits | j;
  }
  std::copy_n(by_two_digits, count, order);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t j = order[i] & ((1u << kIndexBits) - 1);
    ranks[j] = static_cast<int32_t>(offsets[2][order[i] >> kIndexBits]++);
  }
}

namespace {

constexpr uint32_t kBucketBlock = 64;

void count_digits(const uint32_t* keys, int64_t count, int digit, uint32_t (&counts)[kBuckets]) {
  std::fill_n(counts, kBuckets, 0u);
  if (count < kBuckets) {
    for (int64_t j = 0; j < count; ++j) ++counts[digit_of(keys[j], digit)];
    return;
  }
  // Two tables in turn: equal digits that follow each other do not wait for each other.
  uint32_t odd[kBuckets] = {};
  for (int64_t j = 0; j + 1 < count; j += 2) {
    ++counts[digit_of(keys[j], digit)];
    ++odd[digit_of(keys[j + 1], digit)];
  }
  if (count % 2 != 0) ++counts[digit_of(keys[count - 1], digit)];
  for (uint32_t i = 0; i < kBuckets; ++i) counts[i] += odd[i];
}

// The largest bucket b with at least `wanted` keys in the buckets from b on; takes the keys above
// it off `wanted`.
uint32_t find_bucket(const uint32_t (&counts)[kBuckets], int64_t& wanted) {
  uint32_t end = kBuckets;
  for (;; end -= kBucketBlock) {
    uint32_t sum = 0;
    for (uint32_t i = end - kBucketBlock; i < end; ++i) sum += counts[i];
    if (sum >= wanted) break;
    wanted -= sum;
  }
  uint32_t bucket = end - 1;
  while (counts[bucket] < wanted) wanted -= counts[bucket--];
  return bucket;
}

// The k-th largest of keys [F], by selection of one digit after the other. candidates [F] is
// scratch. `ties` becomes how many of the keys equal to it are among the k largest.
uint32_t kth_largest(const uint32_t* keys, int64_t count, int64_t k, uint32_t* candidates,
                     int64_t& ties) {
  ties = k;
  const uint32_t* from = keys;
  for (int digit = kDigits - 1; digit >= 0; --digit) {
    uint32_t counts[kBuckets];
    count_digits(from, count, digit, counts);
    const uint32_t bucket = find_bucket(counts, ties);
    int64_t kept = 0;
    for (int64_t j = 0; j < count; ++j) {
      candidates[kept] = from[j];  // always written, counted when it belongs: no branch
      kept += digit_of(from[j], digit) == bucket;
    }
    from = candidates;
    count = kept;
  }
  return candidates[0];
}

// One past the last of the first `ties` keys that equal `edge`; there are so many.
int64_t end_of_ties(const uint32_t* keys, int64_t count, uint32_t edge, int64_t ties) {
  constexpr int64_t kBlock = 16;
  int64_t j = 0;
  for (; j + kBlock <= count; j += kBlock) {
    uint32_t equal = 0;
    for (int64_t i = 0; i < kBlock; ++i) equal += keys[j + i] == edge;
    if (equal >= ties) break;
    ties -= equal;
  }
  for (; ties > 0; ++j) ties -= keys[j] == edge;
  return j;
}

}  // namespace

void top_k_keys(const uint32_t* keys, int64_t count, uint32_t* candidates, Span<int32_t> neurons) {
  const auto k = static_cast<int64_t>(neurons.size);
  int64_t ties = 0;
  const uint32_t edge = kth_largest(keys, count, k, candidates, ties);
  const int64_t tied = end_of_ties(keys, count, edge, ties);
  int64_t kept = 0, j = 0;
  for (; j < tied && kept < k; ++j) {
    neurons[kept] = static_cast<int32_t>(j);
    kept += keys[j] >= edge;
  }
  for (; j < count && kept < k; ++j) {
    neurons[kept] = static_cast<int32_t>(j);
    kept += keys[j] > edge;
  }
}

}  // namespace glass::internal
