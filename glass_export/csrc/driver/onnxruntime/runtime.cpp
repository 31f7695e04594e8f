#include "driver/onnxruntime/runtime.h"

#include <map>

#include "onnxruntime/call.h"

namespace glass {
namespace {

const char* advice_for(OrtErrorCode code) {
  switch (code) {
    case ORT_NO_SUCHFILE:
      return "copy or export the artifact again";
    case ORT_NOT_IMPLEMENTED:
    case ORT_INVALID_GRAPH:
    case ORT_NO_MODEL:
    case ORT_INVALID_PROTOBUF:
      return "the file is damaged, or made for another version of the runtime or of the operators: "
             "export the model again with the glass-export that built this program";
    default:
      return "see the message of the runtime";
  }
}

}  // namespace

const OrtApi* ort_api() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(onnxruntime_ops::kApiVersion);
  return api;
}

Outcome ort_outcome(OrtStatus* status, const std::string& what) {
  if (status == nullptr) return Done{};
  const OrtOwned<OrtStatus> owned(status);
  return failure(what, " failed: ", ort_api()->GetErrorMessage(status), "; ",
                 advice_for(ort_api()->GetErrorCode(status)));
}

ONNXTensorElementDataType ort_type(const std::string& dtype) {
  static const std::map<std::string, ONNXTensorElementDataType> kTypes = {
      {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
      {"float16", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
      {"bfloat16", ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
      {"uint8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
      {"int8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
      {"int32", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
      {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
      {"bool", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
  };
  const auto found = kTypes.find(dtype);
  return found == kTypes.end() ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED : found->second;
}

Result<OrtOwned<OrtValue>> ort_tensor(const void* data, size_t bytes,
                                      const std::vector<int64_t>& shape,
                                      ONNXTensorElementDataType type) {
  static const Result<OrtOwned<OrtMemoryInfo>> memory =
      ort_made<OrtMemoryInfo>("describing memory", [](OrtMemoryInfo** made) {
        return ort_api()->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, made);
      });
  if (!memory) return memory.failure();
  return ort_made<OrtValue>("describing a tensor", [&](OrtValue** made) {
    return ort_api()->CreateTensorWithDataAsOrtValue(memory->get(), const_cast<void*>(data), bytes,
                                                     shape.data(), shape.size(), type, made);
  });
}

}  // namespace glass
