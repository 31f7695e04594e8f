// The decoder of a tokenizer.json, token by token.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// How tokens become text.
struct DecoderRules {
  bool byte_level = false;  // tokens are written in GPT-2's characters for bytes
  std::vector<std::pair<std::string, std::string>> replacements;
  bool byte_fallback = false;  // <0x00> to <0xFF> are bytes
  std::string strip;           // removed from the start of the text, up to strip_count times
  int64_t strip_count = 0;

  // Supports ByteLevel, and sequences of Replace, ByteFallback, Fuse and Strip; fails for others.
  static Result<DecoderRules> from_json(const Json& config);

  // Bytes of normalised text that a token stands for.
  size_t length_of(const std::string& token) const;
};

// Bytes that become text as soon as they are whole characters.
class Utf8Buffer {
 public:
  void append(const std::string& bytes) { bytes_ += bytes; }

  // The text that is certain; when `last`, all of it.
  std::string take(bool last);

 private:
  std::string bytes_;
};

// The state of decoding one stream of tokens.
class Decoder {
 public:
  explicit Decoder(const DecoderRules& rules) : rules_(rules), strips_left_(rules.strip_count) {}

  // The text that is certain after another token.
  std::string step(const std::string& token);

  // What is left at the end.
  std::string flush();

 private:
  std::string end_byte_run();
  std::string stripped(std::string text);

  const DecoderRules& rules_;
  int64_t strips_left_;
  Utf8Buffer bytes_;      // byte level
  std::string byte_run_;  // byte fallback: a run of byte tokens counts only as a whole
};

}  // namespace glass
