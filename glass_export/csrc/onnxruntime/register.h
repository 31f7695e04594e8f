// How a session gets the operators.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>

namespace glass::onnxruntime_ops {

// Entry of the session options: number of threads of the session's pool, which ONNX Runtime does
// not tell operators. It must be there before the library is registered.
constexpr const char* kThreadsEntry = "ai.glass.intra_op_num_threads";

}  // namespace glass::onnxruntime_ops

extern "C" {

// What SessionOptions.register_custom_ops_library calls.
__attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                    const OrtApiBase* base);

// The operators' version; an artifact of another abi_version must not be run.
__attribute__((visibility("default"))) int32_t glass_abi_version();

// Name of the instruction set in use.
__attribute__((visibility("default"))) const char* glass_active_isa();
}
