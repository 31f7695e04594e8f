#include "kernels/vec_neon.h"
// Vectors, then products: the rest is written in terms of them.
#include "kernels/integer_neon.h"
// The products come first: the table is written in terms of them.
#include "kernels/integer_table.h"

namespace glass::internal {

const IntegerKernels* neon_i8mm_integer_kernels() { return &kIntegerKernels; }

}  // namespace glass::internal
