// One run of a node: its tensors, temporary memory and threads, through ONNX Runtime's C interface.
#pragma once

#include <onnxruntime_c_api.h>

#include <string>

#include "glass/base.h"

namespace glass::onnxruntime_ops {

// The oldest version of the interface that has all functions used here. Every later ONNX Runtime
// serves it, whatever the version of the headers.
constexpr uint32_t kApiVersion = 18;
static_assert(ORT_API_VERSION >= kApiVersion,
              "these headers of ONNX Runtime are too old: expected 1.18 or newer");

// A tensor as ONNX Runtime holds it; owns nothing.
struct Tensor {
  static constexpr size_t kMaxRank = 8;

  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  size_t rank = 0;
  int64_t sizes[kMaxRank] = {};
  const void* data = nullptr;

  int64_t count() const;                                            // of elements
  int64_t last_size() const { return rank ? sizes[rank - 1] : 0; }  // 0 of a scalar
  template <class T>
  Span<const T> values() const {
    return {static_cast<const T*>(data), static_cast<size_t>(count())};
  }
};

// Type and shape for messages, such as "uint8 [64,576]".
std::string describe(const Tensor& tensor);

// What all runs of a node share. The allocator is the session's and may be used by several threads.
struct Environment {
  const OrtApi* api = nullptr;
  OrtAllocator* allocator = nullptr;
  int64_t threads = 1;  // of the session's pool, the caller included
};

// The first failure is kept; every method that returns false has failed, and so has the run.
class Call {
 public:
  Call(const Environment& environment, OrtKernelContext* context)
      : environment_(environment), api_(*environment.api), context_(context) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool input(size_t index, Tensor& tensor);

  // `present` is false where a node has left out an optional input; `tensor` is not touched then.
  bool optional_input(size_t index, Tensor& tensor, bool& present);

  // Memory of a float32 output of the given shape.
  bool output(size_t index, const int64_t* sizes, size_t rank, Span<float>& values);

  // Temporary memory until the end of the run; at most once.
  bool scratch(size_t floats, Span<float>& values);

  // The session's threads. Valid as long as the call.
  Parallel parallel();

  bool require(Status status);

  // Fails with a message in the form of printf unless `ok`.
  __attribute__((format(printf, 3, 4))) bool require(bool ok, const char* format, ...);

  // The outcome, which ONNX Runtime releases; null when all went well.
  OrtStatus* take_status();

 private:
  static void run_on_pool(void* context, int64_t count, Parallel::Task task, void* arg);

  bool read(const OrtValue* value, size_t index, Tensor& tensor);

  // Keeps a failure of the interface.
  bool check(OrtStatus* status);

  const Environment& environment_;
  const OrtApi& api_;
  OrtKernelContext* context_;
  void* memory_ = nullptr;
  OrtStatus* status_ = nullptr;
};

}  // namespace glass::onnxruntime_ops
