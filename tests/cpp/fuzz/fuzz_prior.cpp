// prior.safetensors: any bytes are refused or become tensors whose values are as many as their
// shapes say.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "driver/safetensors.h"
#include "fuzz_target.h"

int fuzz_one(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto tensors = glass::parse_safetensors(bytes);
  if (!tensors) return 0;
  for (const auto& [name, tensor] : *tensors) {
    int64_t count = 1;
    for (const int64_t extent : tensor.shape) count *= extent;
    if (count != static_cast<int64_t>(tensor.values.size())) std::abort();
    if (tensor.values.size() * sizeof(float) > size) std::abort();
  }
  return 0;
}
