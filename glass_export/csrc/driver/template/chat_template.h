// Chat templates: Jinja, by llama.cpp's engine. As glass_export/runtime/chat_template.py.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "driver/range.h"
#include "driver/status.h"

namespace glass {

// A turn of a conversation. role: system, user or assistant.
struct Message {
  std::string role;
  std::string content;
};

class ChatTemplate {
 public:
  // `variables`: bos_token, eos_token and the like. Fails when the source is no Jinja that this
  // engine knows.
  static Result<ChatTemplate> compile(const std::string& source,
                                      std::map<std::string, std::string> variables);

  // The conversation as text, up to where the assistant's answer begins. Fails when there is no
  // message, one is not valid UTF-8, or the template refuses them.
  Result<std::string> render(const std::vector<Message>& messages) const;

  // Where in a rendered text the contents of the user's messages are, in bytes, in order. They are
  // found by rendering once more with marks around them; none when the template changes them by
  // more than trimming them.
  std::vector<Range> user_spans(const std::vector<Message>& messages,
                                const std::string& rendered) const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

  std::shared_ptr<const Program> program_;
};

}  // namespace glass
