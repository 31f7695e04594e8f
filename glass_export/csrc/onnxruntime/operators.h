// The operators of the domain ai.glass, version 1. A kernel class has
//
//   kName                               the operator's name
//   kInputs, kOutputs                   element types; kAny is checked by `run`
//   kRequiredInputs                     how many of the inputs a node must have
//   kKeepsShape                         whether output 0 has the shape of input 0
//   OrtStatus* init(const Attributes&)  reads a node's attributes; null when all went well
//   void run(Call&) const               one run; several threads may be in it at the same time
//
// and `OperatorOf` makes ONNX Runtime's description of an operator from it.
#pragma once

#include <onnxruntime_c_api.h>

#include <array>
#include <iterator>
#include <memory>
#include <string>

#include "glass/experts.h"
#include "glass/ffn.h"
#include "onnxruntime/call.h"
#include "packing/packed_bundles.h"

namespace glass::onnxruntime_ops {

constexpr ONNXTensorElementDataType kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr ONNXTensorElementDataType kUint8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
constexpr ONNXTensorElementDataType kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
constexpr ONNXTensorElementDataType kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr ONNXTensorElementDataType kAny = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;

// A node's attributes; every method returns null when all went well.
class Attributes {
 public:
  Attributes(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  OrtStatus* integer(const char* name, int64_t& value) const {
    return api_.KernelInfoGetAttribute_int64(info_, name, &value);
  }

  // The attribute `activation`, a name of glass_export.spec.Activation.
  OrtStatus* activation(Activation& value) const;

 private:
  const OrtApi& api_;
  const OrtKernelInfo* info_;
};

// The FFN's weights, gated or not, for tokens x; fails where they do not fit. The format follows
// from the bundle's element type and size.
bool bundle_of(Call& call, const Tensor& x, const Tensor& bundle, bool gated, FfnBundle& ffn);

// x, the bundle, another input, and of a plain FFN the bias.
template <bool kGated>
constexpr auto ffn_inputs(ONNXTensorElementDataType third) {
  if constexpr (kGated) {
    return std::array{kFloat, kAny, third};
  } else {
    return std::array{kFloat, kAny, third, kFloat};
  }
}

// SparseFFN(x float [..,D], bundle, indices int32 [L,K]) -> y float [..,D]: the neurons of row
// `layer` of the indices, which are ascending and may end in padding, -1. A bundle is float [F,3,D]
// or uint8 [F,bundle_bytes()]. Attributes: int layer, string activation.
//
// PlainSparseFFN, of an FFN without a gate, takes bundles [F,2,D] and one input more, bias float
// [F], which is optional.
template <bool kGated>
class SparseFfnOf {
 public:
  static constexpr const char* kName = kGated ? "SparseFFN" : "PlainSparseFFN";
  static constexpr auto kInputs = ffn_inputs<kGated>(kInt32);
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};
  static constexpr size_t kRequiredInputs = 3;
  static constexpr bool kKeepsShape = true;

  OrtStatus* init(const Attributes& attributes);
  void run(Call& call) const;

 private:
  int64_t layer_ = 0;
  Activation activation_ = Activation::kSilu;
  mutable PackedBundles packed_;  // locks itself
};

using SparseFfn = SparseFfnOf<true>;
using PlainSparseFfn = SparseFfnOf<false>;

// DenseFFN(x float [..,D], bundle, score_weights float [S]) -> y float [..,D], abs_sum float [F],
// sq_sum float [F] for S tokens in x. Attribute: string activation. PlainDenseFFN as above.
template <bool kGated>
class DenseFfnOf {
 public:
  static constexpr const char* kName = kGated ? "DenseFFN" : "PlainDenseFFN";
  static constexpr auto kInputs = ffn_inputs<kGated>(kFloat);
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat, kFloat, kFloat};
  static constexpr size_t kRequiredInputs = 3;
  static constexpr bool kKeepsShape = true;

  OrtStatus* init(const Attributes& attributes) { return attributes.activation(activation_); }
  void run(Call& call) const;

 private:
  Activation activation_ = Activation::kSilu;
};

using DenseFfn = DenseFfnOf<true>;
using PlainDenseFfn = DenseFfnOf<false>;

// SparseExperts(x float [S,D], index int64 [S,k], weight float [S,k], bundle, indices int32 [L,K])
// -> y float [S,D]: a mixture of experts, each with the neurons of its row of the indices. A bundle
// is float [E F,3,D] or uint8 [E F,bundle_bytes()]. Attributes: int experts (E), int first_row
// (that of expert 0), string activation.
class SparseExperts {
 public:
  static constexpr const char* kName = "SparseExperts";
  static constexpr ONNXTensorElementDataType kInputs[] = {kFloat, kInt64, kFloat, kAny, kInt32};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};
  static constexpr size_t kRequiredInputs = 5;
  static constexpr bool kKeepsShape = true;

  OrtStatus* init(const Attributes& attributes);
  void run(Call& call) const;

 private:
  int64_t experts_ = 0;
  int64_t first_row_ = 0;
  Activation activation_ = Activation::kSilu;
};

// DenseExperts(x, index, weight, bundle, score_weights float [S]) -> y float [S,D], abs_sum float
// [E,F], sq_sum float [E,F]. Attributes: int experts, string activation.
class DenseExperts {
 public:
  static constexpr const char* kName = "DenseExperts";
  static constexpr ONNXTensorElementDataType kInputs[] = {kFloat, kInt64, kFloat, kAny, kFloat};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat, kFloat, kFloat};
  static constexpr size_t kRequiredInputs = 5;
  static constexpr bool kKeepsShape = true;

  OrtStatus* init(const Attributes& attributes);
  void run(Call& call) const;

 private:
  int64_t experts_ = 0;
  Activation activation_ = Activation::kSilu;
};

// Linear(x float [..,D], weight uint8 [N,row_bytes()], bias float [N]) -> y float [..,N]; the bias
// is optional.
class Linear {
 public:
  static constexpr const char* kName = "Linear";
  static constexpr ONNXTensorElementDataType kInputs[] = {kFloat, kUint8, kFloat};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};
  static constexpr size_t kRequiredInputs = 2;
  static constexpr bool kKeepsShape = false;

  OrtStatus* init(const Attributes&) { return nullptr; }
  void run(Call& call) const;
};

// Embedding(weight uint8 [N,row_bytes()], indices int64 [..]) -> y float [..,D]: rows as numbers.
// Attribute: int width, D.
class Embedding {
 public:
  static constexpr const char* kName = "Embedding";
  static constexpr ONNXTensorElementDataType kInputs[] = {kUint8, kInt64};
  static constexpr ONNXTensorElementDataType kOutputs[] = {kFloat};
  static constexpr size_t kRequiredInputs = 2;
  static constexpr bool kKeepsShape = false;

  OrtStatus* init(const Attributes& attributes) { return attributes.integer("width", width_); }
  void run(Call& call) const;

 private:
  int64_t width_ = 0;
};

// Tells that output 0 has the shape of input 0, as far as that is known before a run.
OrtStatus* keep_shape(const OrtApi& api, OrtShapeInferContext* context);

// A node: its kernel and what its runs share.
template <class Kernel>
struct Node {
  Environment environment;
  Kernel kernel;

  ~Node() {
    if (environment.allocator != nullptr) environment.api->ReleaseAllocator(environment.allocator);
  }
};

// ONNX Runtime's description of an operator. Must outlive the sessions that use it.
template <class Kernel>
class OperatorOf : public OrtCustomOp {
 public:
  // `threads` is the number of threads of the session's pool.
  OperatorOf(const OrtApi& api, int64_t threads) : OrtCustomOp{}, api_(api), threads_(threads) {
    version = kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::kName; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    describe_tensors();
    CreateKernelV2 = create;
    KernelComputeV2 = compute;
    KernelDestroy = [](void* node) { delete static_cast<Node<Kernel>*>(node); };
    if (Kernel::kKeepsShape) InferOutputShapeFn = infer_shape;
  }

 private:
  void describe_tensors() {
    GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kInputs); };
    GetInputType = [](const OrtCustomOp*, size_t index) { return Kernel::kInputs[index]; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
      return index < Kernel::kRequiredInputs ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kOutputs); };
    GetOutputType = [](const OrtCustomOp*, size_t index) { return Kernel::kOutputs[index]; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  }

  static OrtStatus* create(const OrtCustomOp* base, const OrtApi*, const OrtKernelInfo* info,
                           void** kernel) {
    const auto& self = *static_cast<const OperatorOf*>(base);
    auto node = std::make_unique<Node<Kernel>>();
    node->environment = {&self.api_, nullptr, self.threads_};
    OrtStatus* status = node->kernel.init(Attributes(self.api_, info));
    if (status == nullptr) {
      status =
          self.api_.KernelInfoGetAllocator(info, OrtMemTypeDefault, &node->environment.allocator);
    }
    if (status == nullptr) *kernel = node.release();
    return status;
  }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    const auto& node = *static_cast<const Node<Kernel>*>(kernel);
    Call call(node.environment, context);
    node.kernel.run(call);
    return call.take_status();
  }

  static OrtStatus* infer_shape(const OrtCustomOp* base, OrtShapeInferContext* context) {
    return keep_shape(static_cast<const OperatorOf*>(base)->api_, context);
  }

  const OrtApi& api_;
  int64_t threads_;
};

}  // namespace glass::onnxruntime_ops
