#include "kernels/vec_neon.h"
// The vectors come first: the table is written in terms of them.
#include "kernels/table.h"

namespace glass::internal {

const Kernels* neon_kernels() { return &kKernels; }

}  // namespace glass::internal
