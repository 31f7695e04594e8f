// What a program that loads this library by name needs besides the operators.
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>

#include "glass/abi.h"
#include "glass/base.h"

extern "C" {

// The operators' version; an artifact of another abi_version must not be run.
__attribute__((visibility("default"))) int32_t glass_abi_version() { return glass::kAbiVersion; }

// Name of the instruction set in use.
__attribute__((visibility("default"))) const char* glass_active_isa() {
  return glass::isa_name(glass::active_isa());
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
