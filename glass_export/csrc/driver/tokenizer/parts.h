// The parts of a tokenizer.json: tokenizers of byte pairs, as Hugging Face tokenizers reads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "driver/status.h"
#include "driver/tokenizer/added_tokens.h"
#include "driver/tokenizer/bpe.h"
#include "driver/tokenizer/decoder.h"
#include "driver/tokenizer/normalizer.h"
#include "driver/tokenizer/pre_tokenizer.h"

namespace glass {

// What the post-processor does: special tokens around a text.
struct PostProcessor {
  std::vector<int64_t> before, after;
  bool trims = false;  // a byte-level token's place in the text is without the spaces around it
};

struct TokenizerParts {
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  DecoderRules decoder;
  PostProcessor surround;

  // Fails when the text is no JSON, or a tokenizer that is not supported.
  static Result<TokenizerParts> parse(std::string_view source);

  // A token as the tokenizer writes it; none when there is no such.
  std::optional<std::string_view> word_of(int64_t token) const;
};

}  // namespace glass
