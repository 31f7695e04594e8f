// What a program that loads this library by name needs besides the operators.
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>

#include <algorithm>
#include <cstring>

#include "executorch/runtime_log.h"
#include "glass/abi.h"
#include "glass/base.h"
#include "packing/packed_bundles.h"

extern "C" {

// The operators' version; an artifact of another abi_version must not be run.
__attribute__((visibility("default"))) int32_t glass_abi_version() { return glass::kAbiVersion; }

// Name of the instruction set in use.
__attribute__((visibility("default"))) const char* glass_active_isa() {
  return glass::isa_name(glass::active_isa());
}

// Silence the runtime's log from now on and keep its errors; the process-wide log is taken over.
__attribute__((visibility("default"))) void glass_capture_log() { glass::capture_runtime_log(); }

// The errors since the last call as a terminated string, cut to `size` bytes; empty without any.
__attribute__((visibility("default"))) void glass_take_errors(char* buffer, size_t size) {
  if (size == 0) return;
  const std::string errors = glass::take_runtime_errors();
  const size_t length = std::min(errors.size(), size - 1);
  std::memcpy(buffer, errors.data(), length);
  buffer[length] = '\0';
}

// Free the copies of chosen neurons. To be called when a program is closed; other programs make
// theirs anew.
__attribute__((visibility("default"))) void glass_release_packed() {
  glass::PackedLayers::of_process().clear();
}

// Let methods that are loaded later share packed weights, or not; 0 on success.
__attribute__((visibility("default"))) int32_t glass_share_packed_weights(int32_t on) {
  executorch::runtime::BackendOptions<1> options;
  if (options.set_option("weight_cache_enabled", on != 0) != executorch::runtime::Error::Ok) {
    return -1;
  }
  return static_cast<int32_t>(executorch::runtime::set_option("XnnpackBackend", options.view()));
}
}
