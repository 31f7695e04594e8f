// ONNX files: any bytes are refused or refer to nothing but the weights file.
#include <cstdint>
#include <string_view>

#include "driver/onnx_file.h"
#include "fuzz_target.h"

int fuzz_one(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)glass::check_onnx(bytes, "weights.bin", 4096);
  return 0;
}
