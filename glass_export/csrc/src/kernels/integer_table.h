// The table of integer kernels of one instruction set. Include last, after one vec_*.h and one
// integer_*.h.
#pragma once

#include "kernels/integer_dense.h"
#include "kernels/integer_ffn.h"
#include "kernels/integer_linear.h"
#include "kernels/integer_quantise.h"

namespace glass::internal {
namespace {

constexpr IntegerKernels kIntegerKernels = {
    quantise, integer_sparse_ffn, integer_hidden, integer_down, linear, embedding};

}  // namespace
}  // namespace glass::internal
