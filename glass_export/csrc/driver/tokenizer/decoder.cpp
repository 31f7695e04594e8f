#include "driver/tokenizer/decoder.h"

#include <cstdlib>

#include "driver/tokenizer/byte_level.h"
#include "driver/tokenizer/growth.h"
#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// The byte of a token such as <0x0A>, or -1.
int byte_of(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return -1;
  const std::string digits = token.substr(3, 2);
  if (digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos) return -1;
  return static_cast<int>(std::strtol(digits.c_str(), nullptr, 16));
}

Outcome add_rule(const Json& config, DecoderRules& rules, size_t& growth) {
  const std::string type = text_of(field(config, "type"));
  if (type == "Fuse") return Done{};
  if (type == "ByteFallback") {
    rules.byte_fallback = true;
    return Done{};
  }
  if (type == "Replace") {
    const std::string from = text_of(field(field(config, "pattern"), "String"));
    if (!from.empty()) {
      rules.replacements.emplace_back(from, text_of(field(config, "content")));
      return grow(growth, rules.replacements.back().second.size() / from.size() + 1);
    }
  }
  if (type == "Strip" && id_of(field(config, "stop")) == 0) {
    rules.strip = text_of(field(config, "content"));
    rules.strip_count = id_of(field(config, "start"));
    if (!rules.strip.empty()) return Done{};
  }
  return failure("decoder '", shown(type), "' is not supported in this form");
}

}  // namespace

Result<DecoderRules> DecoderRules::from_json(const Json& config) {
  DecoderRules rules;
  const std::string type = text_of(field(config, "type"));
  if (type == "ByteLevel") {
    rules.byte_level = true;
    return rules;
  }
  if (type != "Sequence") return failure("decoder '", shown(type), "' is not supported");
  size_t growth = 1;
  for (const Json& part : field(config, "decoders")) {
    if (Outcome added = add_rule(part, rules, growth); !added) return added.failure();
  }
  return rules;
}

size_t DecoderRules::length_of(const std::string& token) const {
  if (byte_level) return characters_to_bytes(token).size();
  return byte_fallback && byte_of(token) >= 0 ? 1 : token.size();
}

std::string Utf8Buffer::take(bool last) {
  std::string out;
  std::string_view rest = bytes_;
  while (!rest.empty()) {
    const int length = utf8_length(rest);
    if (length == 0 && !last) break;
    if (length > 0) out += rest.substr(0, static_cast<size_t>(length));
    if (length <= 0) out += kReplacement;
    rest.remove_prefix(length > 0 ? static_cast<size_t>(length) : utf8_broken_length(rest));
  }
  bytes_ = std::string(rest);
  return out;
}

std::string Decoder::step(const std::string& token) {
  if (rules_.byte_level) {
    bytes_.append(characters_to_bytes(token));
    return bytes_.take(false);
  }
  std::string text = token;
  for (const auto& [from, to] : rules_.replacements) text = replace_all(text, from, to);
  if (const int byte = rules_.byte_fallback ? byte_of(text) : -1; byte >= 0) {
    byte_run_ += static_cast<char>(byte);
    return "";
  }
  return stripped(end_byte_run() + text);
}

std::string Decoder::flush() {
  return rules_.byte_level ? bytes_.take(true) : stripped(end_byte_run());
}

// A run of bytes that is no UTF-8 becomes one U+FFFD a byte.
std::string Decoder::end_byte_run() {
  std::string out;
  if (is_utf8(byte_run_)) {
    out = byte_run_;
  } else {
    for (size_t i = 0; i < byte_run_.size(); ++i) out += kReplacement;
  }
  byte_run_.clear();
  return out;
}

std::string Decoder::stripped(std::string text) {
  for (; strips_left_ > 0 && !text.empty(); --strips_left_) {
    if (text.compare(0, rules_.strip.size(), rules_.strip) != 0)
      strips_left_ = 1;
    else
      text.erase(0, rules_.strip.size());
  }
  return text;
}

}  // namespace glass
