// The table of one instruction set. Include last, after one vec_*.h.
#pragma once

#include "kernels/attention.h"
#include "kernels/dense_ffn.h"
#include "kernels/kernels.h"
#include "kernels/norm.h"
#include "kernels/sparse_ffn.h"

namespace glass::internal {
namespace {

static_assert(kMaxLanes % kLanes == 0 && kTokenBlock % kPanelWidth == 0);
static_assert(kTileColumns <= kMaxTileColumns && kLine % kLanes == 0);
static_assert(kLanes % kTileTokens == 0, "a tile of tokens stays within the padded ones");

constexpr Kernels kKernels = {kLanes, sparse_ffn, pack, hidden, down, scores, norm, attend, add};

}  // namespace
}  // namespace glass::internal
