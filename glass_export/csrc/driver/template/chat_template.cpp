#include "driver/template/chat_template.h"

#include <jinja/runtime.h>

#include <exception>
#include <new>
#include <string_view>

#include "driver/template/budget.h"
#include "driver/template/calls.h"
#include "driver/template/guard.h"
#include "driver/tokenizer/unicode.h"

namespace glass {

// What llama.cpp's engine makes of a template. It keeps nothing of a rendering.
struct ChatTemplate::Program {
  jinja::program code;
  std::map<std::string, std::string> variables;
};

namespace {

// Noncharacters: never part of interchanged text.
constexpr std::string_view kOpen = "\xEF\xB7\x90", kClose = "\xEF\xB7\x91";  // U+FDD0, U+FDD1

jinja::value text_value(const std::string& text) {
  return jinja::mk_val<jinja::value_string>(text);
}

jinja::value messages_value(const std::vector<Message>& messages) {
  auto list = jinja::mk_val<jinja::value_array>();
  for (const Message& message : messages) {
    auto object = jinja::mk_val<jinja::value_object>();
    object->insert("role", text_value(message.role));
    object->insert("content", text_value(message.content));
    list->push_back(object);
  }
  return list;
}

Outcome check_messages(const std::vector<Message>& messages) {
  if (messages.empty()) {
    return failure("messages: got none, expected at least one, such as a user's");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_utf8(messages[i].role) || !is_utf8(messages[i].content)) {
      return failure("messages[", i, "]: not valid UTF-8; pass it in that encoding");
    }
  }
  return Done{};
}

// The characters that Python's str.strip() removes.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string stripped(const std::string& text) {
  const std::u32string characters = decode_utf8(text);
  size_t start = 0, stop = characters.size();
  while (start < stop && is_space(characters[start])) ++start;
  while (stop > start && is_space(characters[stop - 1])) --stop;
  std::string out;
  for (size_t i = start; i < stop; ++i) append_utf8(characters[i], out);
  return out;
}

// The messages with marks around the user's contents, stripped or as they are.
std::vector<Message> marked(std::vector<Message> messages, bool strips) {
  for (Message& message : messages) {
    const std::string bare = stripped(message.content);
    if (message.role != "user" || bare.empty()) continue;
    message.content = std::string(kOpen) + (strips ? bare : message.content) + std::string(kClose);
  }
  return messages;
}

// The stretches between marks, counted without the marks, which are taken out of `text`; none when
// the marks are not in pairs.
std::vector<Range> take_marks(std::string& text) {
  std::vector<Range> spans;
  std::string bare;
  bool inside = false, paired = true;
  for (size_t at = 0; at < text.size();) {
    const std::string_view three = std::string_view(text).substr(at, kOpen.size());
    const bool opens = three == kOpen, closes = three == kClose;
    if (!opens && !closes) {
      bare += text[at++];
      continue;
    }
    paired = paired && opens != inside;
    inside = opens;
    if (opens) spans.push_back({bare.size(), bare.size()});
    if (closes && !spans.empty()) spans.back().stop = bare.size();
    at += three.size();
  }
  text = std::move(bare);
  return paired && !inside ? spans : std::vector<Range>();
}

}  // namespace

Result<ChatTemplate> ChatTemplate::compile(const std::string& source,
                                           std::map<std::string, std::string> variables) {
  if (!is_utf8(source)) {
    return failure("chat template: not UTF-8 text", kCopyAgain).as(ArtifactCode::kTemplate);
  }
  auto program = std::make_shared<Program>();
  if (Outcome parsed = parse_template(source, program->code); !parsed) {
    return failure("chat template: not supported: ", parsed.failure().message,
                   "; use another artifact, or pass prompts as plain text")
        .as(ArtifactCode::kTemplate);
  }
  program->variables = std::move(variables);
  return ChatTemplate(std::move(program));
}

Result<std::string> ChatTemplate::render(const std::vector<Message>& messages) const {
  if (Outcome valid = check_messages(messages); !valid) {
    return valid.failure().as(ErrorCode::kInvalidArgument);
  }
  size_t input = 0;
  for (const Message& message : messages) input += message.role.size() + message.content.size();
  const TemplateBudget budget(input);
  try {
    jinja::context context("");
    limit_functions(context);
    for (const auto& [name, value] : program_->variables) context.set_val(name, text_value(value));
    context.set_val("messages", messages_value(messages));
    context.set_val("tools", jinja::mk_val<jinja::value_none>());
    context.set_val("documents", jinja::mk_val<jinja::value_none>());
    context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(true));
    jinja::runtime runtime(context);
    const jinja::value parts = runtime.execute(program_->code);
    return jinja::runtime::gather_string_parts(parts)->as_string().str();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& problem) {
    if (budget.out_of_memory()) throw std::bad_alloc();
    if (budget.exceeded()) {
      return failure(
                 "chat template: it does more than a chat template needs; use another artifact, ",
                 "or pass prompts as plain text")
          .as(ArtifactCode::kTemplate);
    }
    return failure("chat template: refused the messages: ", engine_message(problem),
                   "; check their roles and order")
        .as(ErrorCode::kInvalidArgument);
  }
}

std::vector<Range> ChatTemplate::user_spans(const std::vector<Message>& messages,
                                            const std::string& rendered) const {
  for (const bool strips : {false, true}) {
    Result<std::string> text = render(marked(messages, strips));
    if (!text) continue;
    std::vector<Range> spans = take_marks(*text);
    if (!spans.empty() && *text == rendered) return spans;
  }
  return {};
}

}  // namespace glass
