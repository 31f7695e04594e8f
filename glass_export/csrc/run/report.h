// What glass_run prints besides the text.
#pragma once

#include <string>

#include "run/generate.h"
#include "run/selection.h"

namespace glass::run {

struct Report {
  const Answer& answer;
  const std::string& text;
  bool has_text = false;  // false: there was no tokenizer to decode the answer with
  double load_ms = 0;
  double density = 0;
};

// The token ids on one line, separated by spaces.
std::string ids_line(const std::vector<int64_t>& tokens);

// One line of JSON: text (null without a tokenizer), token_ids, finish_reason and stats.
std::string json_line(const Report& report);

// The figures for people, a few lines.
std::string figures_text(const Report& report);

}  // namespace glass::run
