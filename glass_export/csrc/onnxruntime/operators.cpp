#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

OrtStatus* Attributes::activation(Activation& value) const {
  constexpr const char* kNames[] = {"silu", "gelu", "gelu_tanh", "relu"};
  char name[64];
  size_t size = sizeof(name);
  if (OrtStatus* status = api_.KernelInfoGetAttribute_string(info_, "activation", name, &size)) {
    return status;
  }
  const std::string text(name);
  for (int32_t i = 0; i < static_cast<int32_t>(std::size(kNames)); ++i) {
    if (text != kNames[i]) continue;
    value = static_cast<Activation>(i);
    return nullptr;
  }
  const std::string message =
      "activation: got '" + text + "', expected silu, gelu, gelu_tanh or relu";
  return api_.CreateStatus(ORT_INVALID_ARGUMENT, message.c_str());
}

OrtStatus* keep_shape(const OrtApi& api, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* x = nullptr;  // the context's
  size_t rank = 0;
  int64_t sizes[Tensor::kMaxRank];
  const char* names[Tensor::kMaxRank];
  OrtStatus* status = api.ShapeInferContext_GetInputTypeShape(context, 0, &x);
  if (status == nullptr) status = api.GetDimensionsCount(x, &rank);
  if (status != nullptr || rank > Tensor::kMaxRank) return status;
  status = api.GetDimensions(x, sizes, rank);
  if (status == nullptr) status = api.GetSymbolicDimensions(x, names, rank);
  if (status != nullptr) return status;
  // A size that has neither value nor name would be set to -1.
  for (size_t i = 0; i < rank; ++i) {
    if (sizes[i] < 0 && *names[i] == '\0') return nullptr;
  }
  return api.ShapeInferContext_SetOutputTypeShape(context, 0, x);
}

}  // namespace glass::onnxruntime_ops
