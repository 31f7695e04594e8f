// What an ONNX file refers to, without a library for it. As glass_export/artifact/onnx_file.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "driver/status.h"

namespace glass {

// Whether every tensor of a model that keeps its data outside of it keeps it inside the weights
// file: in `weights`, a file of `size` bytes next to it. Fails when not, or when the bytes are no
// ModelProto or have more than kMostGraphDepth graphs inside each other.
Outcome check_onnx(std::string_view model, const std::string& weights, int64_t size);

}  // namespace glass
