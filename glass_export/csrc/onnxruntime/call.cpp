#include "onnxruntime/call.h"

#include <cstdarg>
#include <cstdio>

namespace glass::onnxruntime_ops {

namespace {

const char* type_name(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return "float";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return "float16";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return "uint8";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
      return "int8";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return "int32";
    default:
      return "another type";
  }
}

}  // namespace

int64_t Tensor::count() const {
  int64_t product = 1;
  for (size_t i = 0; i < rank; ++i) product *= sizes[i];
  return product;
}

std::string describe(const Tensor& tensor) {
  std::string text = type_name(tensor.type);
  text += " [";
  for (size_t i = 0; i < tensor.rank; ++i) {
    if (i > 0) text += ",";
    text += std::to_string(tensor.sizes[i]);
  }
  return text + "]";
}

Call::~Call() {
  if (memory_ != nullptr) environment_.allocator->Free(environment_.allocator, memory_);
  if (status_ != nullptr) api_.ReleaseStatus(status_);
}

bool Call::input(size_t index, Tensor& tensor) {
  const OrtValue* value = nullptr;
  return check(api_.KernelContext_GetInput(context_, index, &value)) && read(value, index, tensor);
}

bool Call::optional_input(size_t index, Tensor& tensor, bool& present) {
  size_t count = 0;
  const OrtValue* value = nullptr;
  if (!check(api_.KernelContext_GetInputCount(context_, &count))) return false;
  if (index < count && !check(api_.KernelContext_GetInput(context_, index, &value))) return false;
  present = value != nullptr;
  return !present || read(value, index, tensor);
}

bool Call::read(const OrtValue* value, size_t index, Tensor& tensor) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (!check(api_.GetTensorTypeAndShape(value, &info))) return false;
  void* data = nullptr;
  const bool done = check(api_.GetTensorElementType(info, &tensor.type)) &&
                    check(api_.GetDimensionsCount(info, &tensor.rank)) &&
                    require(tensor.rank <= Tensor::kMaxRank,
                            "input %zu: got %zu dimensions, expected at most %zu", index,
                            tensor.rank, Tensor::kMaxRank) &&
                    check(api_.GetDimensions(info, tensor.sizes, tensor.rank)) &&
                    // The interface has no reading access in this version; nothing is written.
                    check(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  api_.ReleaseTensorTypeAndShapeInfo(info);
  tensor.data = data;
  return done;
}

bool Call::output(size_t index, const int64_t* sizes, size_t rank, Span<float>& values) {
  OrtValue* value = nullptr;
  void* data = nullptr;
  if (!check(api_.KernelContext_GetOutput(context_, index, sizes, rank, &value)) ||
      !check(api_.GetTensorMutableData(value, &data))) {
    return false;
  }
  size_t count = 1;
  for (size_t i = 0; i < rank; ++i) count *= static_cast<size_t>(sizes[i]);
  values = {static_cast<float*>(data), count};
  return true;
}

bool Call::scratch(size_t floats, Span<float>& values) {
  if (floats == 0) return true;
  memory_ = environment_.allocator->Alloc(environment_.allocator, floats * sizeof(float));
  values = {static_cast<float*>(memory_), floats};
  return require(memory_ != nullptr, "no memory for %zu temporary floats", floats);
}

Parallel Call::parallel() {
  return environment_.threads > 1 ? Parallel{this, environment_.threads, run_on_pool} : serial();
}

void Call::run_on_pool(void* context, int64_t count, Parallel::Task task, void* arg) {
  struct Bound {
    Parallel::Task task;
    void* arg;
  } bound{task, arg};
  const auto run = [](void* data, size_t index) {
    const auto& work = *static_cast<const Bound*>(data);
    work.task(work.arg, static_cast<int64_t>(index));
  };
  Call& call = *static_cast<Call*>(context);
  // Zero batches: each thread takes the next task when it is free.
  call.check(call.api_.KernelContext_ParallelFor(call.context_, run, static_cast<size_t>(count), 0,
                                                 &bound));
}

bool Call::require(Status status) {
  return require(status == Status::kOk, "%s", status_message(status));
}

bool Call::require(bool ok, const char* format, ...) {
  if (ok || status_ != nullptr) return ok;
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  status_ = api_.CreateStatus(ORT_INVALID_ARGUMENT, text);
  return false;
}

OrtStatus* Call::take_status() {
  OrtStatus* const status = status_;
  status_ = nullptr;
  return status;
}

bool Call::check(OrtStatus* status) {
  if (status == nullptr) return true;
  if (status_ == nullptr) {
    status_ = status;
  } else {
    api_.ReleaseStatus(status);
  }
  return false;
}

}  // namespace glass::onnxruntime_ops
