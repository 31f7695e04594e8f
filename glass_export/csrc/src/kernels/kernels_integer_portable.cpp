#include "kernels/vec_portable.h"
// Vectors, then products: the rest is written in terms of them.
#include "kernels/integer_portable.h"
// The products come first: the table is written in terms of them.
#include "kernels/integer_table.h"

namespace glass::internal {

const IntegerKernels* portable_integer_kernels() { return &kIntegerKernels; }

}  // namespace glass::internal
