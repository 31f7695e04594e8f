// From text to tokens and back, as glass_export/runtime/{text,detokenizer}.py.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "driver/artifact.h"
#include "driver/status.h"
#include "driver/template/chat_template.h"

namespace glass {

// Decodes token by token. The pieces are whole UTF-8 characters, and joined they are the text of
// all tokens; bytes that are no UTF-8 become U+FFFD, special tokens are left out.
class TokenStream {
 public:
  virtual ~TokenStream() = default;

  // Adds a token; returns the text that is now certain, which may be empty.
  virtual std::string step(int64_t token) = 0;

  // The text still held back, at the end of the stream.
  virtual std::string flush() = 0;
};

// A prompt as tokens, and which of them count in the local scores: weight 1, others 0.
struct Encoded {
  std::vector<int64_t> tokens;
  std::vector<float> weights;
};

// The tokenizer and the chat template of an artifact. After it is opened, several threads may use
// it.
class TextCodec {
 public:
  virtual ~TextCodec() = default;

  // Tokens of a plain prompt, special tokens added as the tokenizer says. All count but special
  // ones. Fails when the text is empty or no UTF-8.
  virtual Result<Encoded> encode(std::string_view text) const = 0;

  // Tokens of a conversation up to the assistant's turn; the template writes all special tokens.
  // The tokens of the user's contents count; all but special ones where those cannot be found.
  // Fails when the artifact has no chat template, or it refuses the messages.
  virtual Result<Encoded> encode(const std::vector<Message>& messages) const = 0;

  // The weights of tokens that come from elsewhere: all but special ones count, or, when there are
  // only special ones, all.
  virtual std::vector<float> weights_of(const std::vector<int64_t>& tokens) const = 0;

  // The conversation as the text that encode() makes tokens of.
  virtual Result<std::string> render(const std::vector<Message>& messages) const = 0;

  virtual bool has_chat_template() const = 0;

  // A fresh incremental decoder; valid as long as the codec.
  virtual std::unique_ptr<TokenStream> stream() const = 0;
};

// The codec of the text of a tokenizer.json, of a tokenizer_config.json, which may be empty, and of
// a chat template, which is looked for in `config` when it is empty. Fails when they are damaged,
// of a kind that is not supported, or ask for more time or memory than an honest one would.
Result<std::unique_ptr<TextCodec>> make_text_codec(std::string_view tokenizer,
                                                   std::string_view config,
                                                   const std::string& chat_template);

// The same of an artifact's files, of which all but tokenizer.json may be missing.
Result<std::unique_ptr<TextCodec>> open_text_codec(const Artifact& artifact);

}  // namespace glass
