// ONNX Runtime's C interface as outcomes and owners.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "driver/status.h"
#include "glass/base.h"

namespace glass {

// The functions; null when the linked runtime is older than the operators need.
const OrtApi* ort_api();

// Frees what the runtime made.
struct OrtRelease {
  void operator()(OrtEnv* made) const { ort_api()->ReleaseEnv(made); }
  void operator()(OrtSession* made) const { ort_api()->ReleaseSession(made); }
  void operator()(OrtSessionOptions* made) const { ort_api()->ReleaseSessionOptions(made); }
  void operator()(OrtIoBinding* made) const { ort_api()->ReleaseIoBinding(made); }
  void operator()(OrtMemoryInfo* made) const { ort_api()->ReleaseMemoryInfo(made); }
  void operator()(OrtValue* made) const { ort_api()->ReleaseValue(made); }
  void operator()(OrtTypeInfo* made) const { ort_api()->ReleaseTypeInfo(made); }
  void operator()(OrtModelMetadata* made) const { ort_api()->ReleaseModelMetadata(made); }
  void operator()(OrtStatus* made) const { ort_api()->ReleaseStatus(made); }
};
template <class T>
using OrtOwned = std::unique_ptr<T, OrtRelease>;

// A status of the runtime; `what` says what was tried.
Outcome ort_outcome(OrtStatus* status, const std::string& what);

// What `make` writes, such as a session, or why it did not.
template <class T, class Make>
Result<OrtOwned<T>> ort_made(const std::string& what, const Make& make) {
  T* made = nullptr;
  if (Outcome outcome = ort_outcome(make(&made), what); !outcome) return outcome.failure();
  return OrtOwned<T>(made);
}

// The element type that a manifest calls so; undefined for other names.
ONNXTensorElementDataType ort_type(const std::string& dtype);

// A tensor over the caller's memory, which must live as long as it is used. Inputs are not written.
Result<OrtOwned<OrtValue>> ort_tensor(const void* data, size_t bytes,
                                      const std::vector<int64_t>& shape,
                                      ONNXTensorElementDataType type);

template <class T>
Result<OrtOwned<OrtValue>> ort_tensor(Span<T> values, const std::vector<int64_t>& shape,
                                      ONNXTensorElementDataType type) {
  return ort_tensor(values.data, values.size * sizeof(T), shape, type);
}

}  // namespace glass
