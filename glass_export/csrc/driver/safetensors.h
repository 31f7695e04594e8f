// Reading a safetensors file of float32 tensors (github.com/huggingface/safetensors).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "driver/status.h"

namespace glass {

struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// All float32 tensors of a file's bytes by name; those of other types are left out. Fails when its
// header does not describe the rest of it, every byte once.
Result<std::map<std::string, FloatTensor>> parse_safetensors(std::string_view content);

// The same of a file. Fails when it cannot be read, too.
Result<std::map<std::string, FloatTensor>> read_safetensors(const std::string& path);

}  // namespace glass
