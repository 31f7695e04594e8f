// The printable characters that byte-level tokenizers write for bytes (GPT-2's bytes_to_unicode).
#pragma once

#include <string>
#include <string_view>

namespace glass {

// Every byte as its character.
std::string bytes_to_characters(std::string_view bytes);

// The bytes of such characters; the text itself when one of its characters stands for no byte.
std::string characters_to_bytes(std::string_view text);

}  // namespace glass
