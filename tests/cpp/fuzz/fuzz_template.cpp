// Chat templates: any text is refused, or renders a conversation, or refuses it, within its budget.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "driver/limits.h"
#include "driver/template/chat_template.h"
#include "fuzz_target.h"

namespace {

void render(const uint8_t* data, size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  const auto compiled = glass::ChatTemplate::compile(source, {{"bos_token", "<s>"}});
  if (!compiled) return;
  const std::vector<glass::Message> messages{
      {"system", "Be brief."}, {"user", " Hello\nthere "}, {"assistant", "Hi"}, {"user", "Why?"}};
  const auto text = compiled->render(messages);
  if (!text) return;
  if (text->size() > 2 * glass::kMostTemplateWork) std::abort();
  (void)compiled->user_spans(messages, *text);
}

}  // namespace

int fuzz_one(const uint8_t* data, size_t size) {
  render(data, size);
  return 0;
}
