// The tokens of a model and the merges of pairs of them, in tables made for being read quickly: a
// vocabulary has 150,000 of each, and an app waits for them when it opens a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace glass {

class Vocabulary {
 public:
  // id: 0 to kMostTokenIds - 1. A token that is there already gets the new id.
  void add(std::string_view token, int32_t id);

  size_t size() const { return entries_.size(); }

  // Whether so many tokens want the same places that somebody chose them for it.
  bool crowded() const { return crowded_; }

  // The token's id, or -1.
  int64_t id(std::string_view token) const;

  // The token of an id; none when there is no such.
  std::optional<std::string_view> token(int64_t id) const;

 private:
  struct Entry {
    uint32_t start, length;  // in text_
    uint32_t hash;
    int32_t id;
  };

  std::string_view text_of(const Entry& entry) const;
  size_t slot_of(std::string_view token, uint32_t hash, size_t& steps) const;
  void grow(size_t count);

  std::string text_;  // of all tokens, one after the other
  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // open addressing: indices of entries, or -1; a power of two
  std::vector<int32_t> by_id_;  // indices of entries, or -1
  bool crowded_ = false;
};

// What a pair of tokens becomes.
struct Merge {
  uint32_t rank;
  int32_t whole;
};

class Merges {
 public:
  // Room for so many merges.
  void reserve(size_t count);

  // Of a pair that is there already, the new merge counts. Tokens: ids of 0 or more.
  void add(int32_t first, int32_t second, Merge merge);

  // See Vocabulary.
  bool crowded() const { return crowded_; }

  // Null when the pair is not merged.
  const Merge* find(int32_t first, int32_t second) const;

 private:
  struct Slot {
    int32_t first = -1, second = -1;  // -1: free
    Merge merge{};
  };

  size_t slot_of(int32_t first, int32_t second, size_t& steps) const;

  std::vector<Slot> slots_;  // open addressing; a power of two
  size_t count_ = 0;
  bool crowded_ = false;
};

}  // namespace glass
