#include "driver/tokenizer/byte_level.h"

#include <array>

#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

constexpr char32_t kCharacters = 0x144;  // all are below

struct Tables {
  std::array<char32_t, 256> character{};
  std::array<int, kCharacters> byte{};
};

// Printable Latin-1 stands for itself, the rest in turn for 0x100, 0x101, ...
Tables make_tables() {
  Tables tables;
  tables.byte.fill(-1);
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    const char32_t character = printable ? byte : next++;
    tables.character[byte] = character;
    tables.byte[character] = static_cast<int>(byte);
  }
  return tables;
}

const Tables& tables() {
  static const Tables made = make_tables();
  return made;
}

}  // namespace

std::string bytes_to_characters(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    append_utf8(tables().character[static_cast<unsigned char>(byte)], out);
  }
  return out;
}

std::string characters_to_bytes(std::string_view text) {
  std::string out;
  for (const char32_t character : decode_utf8(text)) {
    const int byte = character < kCharacters ? tables().byte[character] : -1;
    if (byte < 0) return std::string(text);
    out += static_cast<char>(byte);
  }
  return out;
}

}  // namespace glass
