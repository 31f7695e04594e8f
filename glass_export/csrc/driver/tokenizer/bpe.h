// Byte-pair encoding as a tokenizer.json defines it: the model part of Hugging Face tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

class Bpe {
 public:
  // Fails when the model is not BPE, is incomplete, or uses prefixes or suffixes inside words.
  static Result<Bpe> from_json(const Json& model);

  // Appends the tokens of one word, valid UTF-8.
  void encode(const std::string& word, std::vector<int64_t>& tokens) const;

  // The token's id, or -1.
  int64_t id(const std::string& token) const;

  const std::unordered_map<std::string, int32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t whole;
  };
  using Merges = std::unordered_map<uint64_t, Merge>;  // by the two tokens' ids
  class WordMerger;

  Outcome read_vocabulary(const Json& model);
  Outcome read_merges(const Json& model);
  std::vector<int32_t> characters(const std::string& word) const;
  void append_unknown(std::string_view character, bool after_unknown,
                      std::vector<int32_t>& symbols) const;

  std::unordered_map<std::string, int32_t> vocabulary_;
  Merges merges_;
  int64_t unknown_ = -1;
  bool byte_fallback_ = false;  // an unknown character becomes its bytes' tokens <0x00> to <0xFF>
  bool fuse_unknown_ = false;   // unknown characters in a row become one token
  bool ignore_merges_ = false;  // a word that is a token is that token
};

}  // namespace glass
