// What glass_run prints besides the text.
#pragma once

#include <string>

#include "driver/session.h"

namespace glass {

struct Report {
  const Answer& answer;
  double load_ms = 0;
};

// The token ids on one line, separated by spaces.
std::string ids_line(const std::vector<int64_t>& tokens);

// One line of JSON: text, token_ids, finish_reason and stats.
std::string json_line(const Report& report);

// The figures for people, a few lines.
std::string figures_text(const Report& report);

}  // namespace glass
