// The codec of files that are in memory already; apart from text.h, whose users need no JSON.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "driver/json.h"
#include "driver/text.h"

namespace glass {

// The codec of the text of a tokenizer.json, the object of a tokenizer_config.json, and a chat
// template, which is looked for in `config` when it is empty. Fails when they are damaged, of a
// kind that is not supported, or ask for more time or memory than an honest one would.
Result<std::unique_ptr<TextCodec>> make_text_codec(std::string_view tokenizer, const Json& config,
                                                   const std::string& chat_template);

}  // namespace glass
