// From an answer's tokens to streamed text: stop strings are never shown. As TextStream in
// glass_export/runtime/detokenizer.py.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "driver/text.h"

namespace glass {

class AnswerStream {
 public:
  // `send` is called with each piece of text as it becomes certain: whole UTF-8 characters.
  // `stops`: strings that end the text and are not part of it; none is empty.
  AnswerStream(std::unique_ptr<TokenStream> tokens, std::vector<std::string> stops,
               std::function<void(const std::string&)> send)
      : tokens_(std::move(tokens)), stops_(std::move(stops)), send_(std::move(send)) {}

  // Adds a token. Returns true when a stop string ends the text before or in it.
  bool write(int64_t token) { return push(tokens_->step(token)); }

  // Ends the text: sends what was held back. Returns true when a stop string ended the text.
  bool close();

  // What has been sent so far.
  const std::string& text() const { return text_; }

 private:
  bool push(const std::string& piece);
  void emit(const std::string& piece);

  std::unique_ptr<TokenStream> tokens_;
  std::vector<std::string> stops_;
  std::function<void(const std::string&)> send_;
  bool stopped_ = false;
  std::string held_;
  std::string text_;
};

}  // namespace glass
