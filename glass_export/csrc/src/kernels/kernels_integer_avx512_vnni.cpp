#include "kernels/vec_avx512.h"
// Vectors, then products: the rest is written in terms of them.
#include "kernels/integer_avx512_vnni.h"
// The products come first: the table is written in terms of them.
#include "kernels/integer_table.h"

namespace glass::internal {

const IntegerKernels* avx512_vnni_integer_kernels() { return &kIntegerKernels; }

}  // namespace glass::internal
