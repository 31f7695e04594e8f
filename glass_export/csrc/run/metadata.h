// What a .pte says about itself: the text of its method get_metadata, lines `key=value`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "run/selection.h"
#include "run/status.h"

namespace glass::run {

// The layout of methods and metadata that this program reads; an artifact states its own.
inline constexpr int64_t kFormatVersion = 1;

struct ModelInfo {
  std::string name;
  std::string family;
  std::string dtype;
  int64_t layers = 0;         // L
  int64_t d_ff = 0;           // F
  int64_t vocab_size = 0;     // V
  int64_t max_length = 0;     // context in tokens, prompt and answer together
  int64_t prefill_chunk = 0;  // most tokens of one prefill call
  std::vector<int64_t> eos_token_ids;
  std::vector<int64_t> special_token_ids;
  SelectionSettings defaults;
};

// Fails when a key is missing or its value is not of its kind, or when the artifact is of another
// format version or operator ABI than this program.
Result<ModelInfo> parse_metadata(std::string_view text);

}  // namespace glass::run
