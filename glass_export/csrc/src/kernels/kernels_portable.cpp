#include "kernels/vec_portable.h"
// The vectors come first: the table is written in terms of them.
#include "kernels/table.h"

namespace glass::internal {

const Kernels* portable_kernels() { return &kKernels; }

}  // namespace glass::internal
