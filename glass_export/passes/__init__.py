"""Target-independent rewrites of captured graphs, one pass a module."""

from __future__ import annotations

from glass_export.passes.base import Pass, PassManager, PassResult
from glass_export.passes.cancel_transposes import CancelTransposes
from glass_export.passes.drop_identities import DropIdentities
from glass_export.passes.fuse_add_rms_norm import FuseAddRmsNorm
from glass_export.passes.fuse_rotary_attention import FuseRotaryAttention
from glass_export.passes.merge_linears import MergeLinears
from glass_export.passes.simplify_reshapes import SimplifyReshapes
from glass_export.passes.sort_heads import SortHeads
from glass_export.passes.split_slices import SplitSlices
from glass_export.passes.widen_rope import WidenRope

__all__ = ["Pass", "PassManager", "PassResult", "default_passes"]


def default_passes() -> PassManager:
    """The passes every target starts from."""
    return PassManager(
        [
            # Phase 1: bring what the tracer left to one form
            DropIdentities(),
            WidenRope(),
            SplitSlices(),
            SortHeads(),
            CancelTransposes(),
            SimplifyReshapes(),
            # Phase 2: fewer, larger operators
            MergeLinears(),
            FuseRotaryAttention(),
            FuseAddRmsNorm(),
        ]
    )
