// What a .pte says about itself, the text of its method get_metadata: lines `key=value`.
#pragma once

#include <cstdint>
#include <string_view>

#include "driver/artifact.h"
#include "driver/status.h"

namespace glass {

// The layout of methods and metadata that this program reads; a .pte states its own.
inline constexpr int64_t kFormatVersion = 1;

// Whether the program is of this format version and operator ABI, and its sizes are the model's.
// Fails when not, or when a key is missing or its value is not of its kind.
Outcome check_metadata(std::string_view text, const ModelInfo& model);

}  // namespace glass
