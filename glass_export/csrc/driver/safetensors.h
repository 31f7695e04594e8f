// Reading a safetensors file of float32 tensors (github.com/huggingface/safetensors).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "driver/status.h"

namespace glass {

struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// All float32 tensors of a file by name; those of other types are left out. Fails when it cannot be
// read, or its header does not describe the file.
Result<std::map<std::string, FloatTensor>> read_safetensors(const std::string& path);

}  // namespace glass
