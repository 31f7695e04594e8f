#include "kernels/vec_portable.h"
// Vectors, then products: the rest is written in terms of them.
#include "kernels/integer_portable.h"
// The products come first.
#include "kernels/integer_ffn.h"

namespace glass::internal {

const IntegerKernels* portable_integer_kernels() { return &kIntegerKernels; }

}  // namespace glass::internal
