// Regular expressions over UTF-8, with the Unicode classes and lookaheads that tokenizers use.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "driver/range.h"
#include "driver/status.h"

namespace glass {

class Regex {
 public:
  static Result<Regex> compile(const std::string& pattern);

  // A regex that matches exactly this text.
  static Result<Regex> literal(std::string_view text);

  // All matches in valid UTF-8, left to right, none empty, none overlapping.
  std::vector<Range> find_all(std::string_view text) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace glass
