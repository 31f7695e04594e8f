// From text to tokens and back, as glass_export/runtime/{text,detokenizer}.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "run/status.h"

namespace glass::run {

// Decodes token by token. The pieces are whole UTF-8 characters, and joined they are the text of
// all tokens; bytes that are no UTF-8 become U+FFFD, special tokens are left out.
class TextStream {
 public:
  virtual ~TextStream() = default;

  // Adds a token; returns the text that is now certain, which may be empty.
  virtual std::string step(int64_t token) = 0;

  // The text still held back, at the end of the stream.
  virtual std::string flush() = 0;
};

// The tokenizer of an artifact.
class TextCodec {
 public:
  virtual ~TextCodec() = default;

  // Token ids of a plain prompt, special tokens added as the tokenizer says. Fails when the text
  // is empty or no UTF-8.
  virtual Result<std::vector<int64_t>> encode(std::string_view text) const = 0;

  // A fresh incremental decoder; valid as long as the codec.
  virtual std::unique_ptr<TextStream> stream() const = 0;
};

// Whether this program was built with a tokenizer.
bool has_tokenizer();

// Reads tokenizer.json and tokenizer_config.json of an artifact directory. Fails when they are
// missing or damaged, of a kind that is not supported, or when has_tokenizer() is false.
Result<std::unique_ptr<TextCodec>> open_text_codec(const std::string& directory);

}  // namespace glass::run
