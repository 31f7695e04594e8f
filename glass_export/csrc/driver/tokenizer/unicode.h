// UTF-8 and the normalisation form NFC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace glass {

// Bytes of the UTF-8 character at the start of `text`, which is not empty; 0 when the text ends
// inside the character, -1 when it does not begin with one.
int utf8_length(std::string_view text);

// Bytes at the start of `text` that one U+FFFD stands for when utf8_length is not above 0: the
// longest beginning of a character, at least 1 (Unicode 3.9, "maximal subpart").
size_t utf8_broken_length(std::string_view text);

bool is_utf8(std::string_view text);

// The characters of valid UTF-8.
std::u32string decode_utf8(std::string_view text);

void append_utf8(char32_t character, std::string& text);

// Canonical composition (Unicode Standard Annex 15) of valid UTF-8.
std::string nfc(std::string_view text);

}  // namespace glass
