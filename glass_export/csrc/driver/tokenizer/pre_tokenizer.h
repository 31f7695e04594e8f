// The pre-tokenizer of a tokenizer.json: splits a text into words that no token crosses.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

class PreTokenizer {
 public:
  // Supports Split, Digits, ByteLevel and Sequence; fails for others.
  static Result<PreTokenizer> from_json(const Json& config);

  std::vector<std::string> split(const std::string& text) const;

 private:
  using Step = std::function<std::vector<std::string>(const std::string&)>;

  Outcome add(const Json& config);
  Outcome add_split(const Json& config);
  Outcome add_pattern(const std::string& pattern);
  Outcome add_byte_level(const Json& config);
  std::vector<Step> steps_;
  size_t growth_ = 1;  // bytes that they make of one, at most
};

}  // namespace glass
