// The normalizer of a tokenizer.json: what is done to a text before it is split.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// Steps applied in turn; none for a text that stays as it is.
class Normalizer {
 public:
  // Supports Replace, Prepend, NFC and Sequence; fails for others.
  static Result<Normalizer> from_json(const Json& config);

  std::string apply(std::string text) const;

 private:
  Outcome add(const Json& config);
  std::vector<std::function<std::string(const std::string&)>> steps_;
  size_t growth_ = 1;  // bytes that they make of one, at most
};

}  // namespace glass
