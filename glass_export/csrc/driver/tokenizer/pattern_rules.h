// Which regular expressions of a tokenizer are run: those that cannot take long. As
// glass_export/runtime/pattern_rules.py.
#pragma once

#include <string_view>

#include "driver/status.h"

namespace glass {

// A backtracking engine needs at most quadratic time for a pattern of which every branch, with the
// groups in it, has no more than kMostPatternChoices choices (quantifiers, and groups with
// alternatives), at most two of them without a bound, after a second one nothing that can fail, and
// no group that is repeated. Fails for other patterns, for those with more than kMostPatternBytes,
// and for back references, recursion and other signs that the tokenizers of today do without.
Outcome check_pattern(std::string_view pattern);

}  // namespace glass
