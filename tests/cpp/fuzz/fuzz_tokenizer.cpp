// tokenizer.json: any text is refused or encodes and decodes. The first byte says how many of the
// last ones are the prompt.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "driver/text.h"
#include "fuzz_target.h"

int fuzz_one(const uint8_t* data, size_t size) {
  if (size < 1 || size < 1u + data[0]) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view tokenizer = all.substr(0, all.size() - data[0]);
  const std::string prompt(all.substr(tokenizer.size()));
  const auto codec = glass::make_text_codec(tokenizer, "", "");
  if (!codec) return 0;
  for (const std::string& text : {prompt, std::string("a  b\n\n 12 caf\xC3\xA9")}) {
    const auto encoded = (*codec)->encode(text);
    if (!encoded) continue;
    if (encoded->tokens.size() != encoded->weights.size()) std::abort();
    const auto stream = (*codec)->stream();
    for (const int64_t token : encoded->tokens) (void)stream->step(token);
    (void)stream->flush();
  }
  return 0;
}
