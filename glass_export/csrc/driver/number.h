// Numbers from text, whole text only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace glass {

// A finite decimal number, or nothing when the text is anything else.
std::optional<double> parse_number(std::string_view text);

// A whole number in the range of int64, or nothing when the text is anything else.
std::optional<int64_t> parse_integer(std::string_view text);

}  // namespace glass
