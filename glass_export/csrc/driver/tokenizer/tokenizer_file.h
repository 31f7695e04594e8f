// A tokenizer.json, read without a tree of its vocabulary and merges: those are nearly all of it,
// and trees of 450,000 nodes take longer to make, walk and free than the rest of opening a model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"
#include "driver/tokenizer/vocabulary.h"

namespace glass {

// Pairs of tokens in the order of their ranks, as they are written.
class MergeTexts {
 public:
  struct Pair {
    std::string_view left, right;
  };

  void add(std::string_view left, std::string_view right);
  size_t size() const { return entries_.size(); }
  Pair operator[](size_t rank) const;

 private:
  struct Entry {
    uint32_t start, left, right;  // in text_, and lengths
  };

  std::string text_;
  std::vector<Entry> entries_;
};

struct TokenizerFile {
  JsonDocument document;  // all but model.vocab, where that is an object, and model.merges
  Vocabulary vocabulary;
  MergeTexts merges;
  bool has_merges = false;
  std::string problem;  // why reading ended early: the two are not what they should be

  // Fails when the text is not JSON.
  static Result<TokenizerFile> parse(std::string_view text);
};

}  // namespace glass
