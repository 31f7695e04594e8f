// The FFN weights of operators for ExecuTorch.
#pragma once

#include "executorch/adapter.h"
#include "glass/ffn.h"

namespace glass::executorch_ops {

// float32 [F,3,D], or bytes [F,bundle_bytes]; of a plain FFN [F,2,D], where `ffn` is not gated.
bool bundle_of(Context& context, const Tensor& x, const Tensor& bundle, FfnBundle& ffn);

}  // namespace glass::executorch_ops
