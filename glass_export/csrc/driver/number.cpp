#include "driver/number.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

namespace glass {

std::optional<double> parse_number(std::string_view text) {
  const bool decimal = text.find_first_not_of("0123456789.+-eE") == std::string_view::npos;
  const std::string copy(text);  // strtod: not every C++17 library has from_chars for double
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (!decimal || copy.empty() || *end != '\0' || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

}  // namespace glass
