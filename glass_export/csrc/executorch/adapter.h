// What the operators for ExecuTorch have in common: tensors as spans, checks, temporary memory.
//
// ExecuTorch's registration takes one `Tensor&` output, the last argument. A tensor is a handle, so
// all other outputs and the caches are passed as `const Tensor&` and written all the same.
#pragma once

#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/kernel/kernel_includes.h>

#include <initializer_list>

#include "executorch/pool.h"
#include "glass/base.h"

namespace glass::executorch_ops {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using Context = executorch::runtime::KernelRuntimeContext;
using Size = executorch::aten::SizesType;
using Sizes = executorch::aten::ArrayRef<Size>;

template <class T>
Span<const T> read(const Tensor& tensor) {
  return {tensor.const_data_ptr<T>(), static_cast<size_t>(tensor.numel())};
}

inline Span<float> write(const Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

inline int64_t last_size(const Tensor& tensor) { return tensor.size(tensor.dim() - 1); }

inline bool floats(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (tensor->scalar_type() != ScalarType::Float || tensor->dim() < 1) return false;
  }
  return true;
}

// Fails the method call unless `ok`; the runtime then returns InvalidArgument to its caller.
inline bool require(Context& context, bool ok, const char* what) {
  if (!ok) {
    ET_LOG(Error, "glass: %s", what);
    context.fail(Error::InvalidArgument);
  }
  return ok;
}

inline bool require(Context& context, Status status) {
  return require(context, status == Status::kOk, status_message(status));
}

inline bool resize(Context& context, const Tensor& out, Sizes sizes) {
  return require(context, executorch::runtime::resize_tensor(out, sizes) == Error::Ok,
                 "the output does not fit the memory planned for it");
}

inline bool scratch(Context& context, size_t count, Span<float>& out) {
  if (count == 0) return true;
  auto memory = context.allocate_temp(count * sizeof(float), 64);
  if (!require(context, memory.ok(), "no temporary memory")) return false;
  out = {static_cast<float*>(memory.get()), count};
  return true;
}

}  // namespace glass::executorch_ops
