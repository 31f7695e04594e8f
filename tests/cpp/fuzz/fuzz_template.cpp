// Chat templates: any text is refused, or renders a conversation, or refuses it, within its budget.
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>

#include "driver/chat_template.h"
#include "driver/limits.h"

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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    render(data, size);
  } catch (const std::bad_alloc&) {
    // What the engine says without a word is taken for this; callers return GLASS_OUT_OF_MEMORY.
  }
  return 0;
}
