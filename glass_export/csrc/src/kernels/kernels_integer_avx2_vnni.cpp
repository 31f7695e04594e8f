#include "kernels/vec_avx2.h"
// Vectors, then products: the rest is written in terms of them.
#include "kernels/integer_avx2.h"
// The products come first: the table is written in terms of them.
#include "kernels/integer_table.h"

namespace glass::internal {

const IntegerKernels* avx2_vnni_integer_kernels() { return &kIntegerKernels; }

}  // namespace glass::internal
