// Version of the operators: their schemas, the bundle layout, and the meaning of enum values.
#pragma once

#include <cstdint>

namespace glass {

// Raised with every change that an artifact exported earlier would notice. Artifacts carry the
// version that they were made for, as abi_version in their metadata.
constexpr int32_t kAbiVersion = 2;

}  // namespace glass
