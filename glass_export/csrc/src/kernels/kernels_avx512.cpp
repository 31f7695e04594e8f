#include "kernels/vec_avx512.h"
// The vectors come first: the table is written in terms of them.
#include "kernels/table.h"

namespace glass::internal {

const Kernels* avx512_kernels() { return &kKernels; }

}  // namespace glass::internal
