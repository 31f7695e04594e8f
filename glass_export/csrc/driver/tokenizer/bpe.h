// Byte-pair encoding as a tokenizer.json defines it: the model part of Hugging Face tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"
#include "driver/tokenizer/tokenizer_file.h"
#include "driver/tokenizer/vocabulary.h"

namespace glass {

class Bpe {
 public:
  // Takes the file's vocabulary. Fails when the model is not BPE, is incomplete, or uses prefixes
  // or suffixes inside words.
  static Result<Bpe> from_file(TokenizerFile& file);

  // Appends the tokens of one word, valid UTF-8.
  void encode(const std::string& word, std::vector<int64_t>& tokens) const;

  // The token's id, or -1.
  int64_t id(std::string_view token) const { return vocabulary_.id(token); }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  class WordMerger;

  Outcome read_merges(const MergeTexts& texts);
  std::vector<int32_t> characters(const std::string& word) const;
  void append_unknown(std::string_view character, bool after_unknown,
                      std::vector<int32_t>& symbols) const;

  Vocabulary vocabulary_;
  Merges merges_;
  int64_t unknown_ = -1;
  bool byte_fallback_ = false;  // an unknown character becomes its bytes' tokens <0x00> to <0xFF>
  bool fuse_unknown_ = false;   // unknown characters in a row become one token
  bool ignore_merges_ = false;  // a word that is a token is that token
};

}  // namespace glass
