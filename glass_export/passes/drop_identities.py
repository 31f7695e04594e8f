"""Remove operators that return their input unchanged."""

from __future__ import annotations

import torch

from glass_export.graph import CapturedGraph, operand
from glass_export.passes.base import Pass, PassResult

_ALWAYS = {
    torch.ops.aten.alias.default,
    torch.ops.aten.clone.default,
    torch.ops.aten.contiguous.default,
    torch.ops.aten.detach.default,
    torch.ops.aten.dropout.default,
}
_CASTS = {
    torch.ops.aten.to.dtype,
    torch.ops.aten.to.dtype_layout,
    torch.ops.aten._to_copy.default,
}


class DropIdentities(Pass):
    """alias, clone, contiguous, detach, inference dropout, and casts to the type a value has."""

    def call(self, graph: CapturedGraph) -> PassResult:
        """Replace each by its input."""
        modified = False
        for node in graph.nodes(*_ALWAYS, *_CASTS):
            source = operand(node, 0)
            if node.target in _ALWAYS or node.meta["val"].dtype == source.meta["val"].dtype:
                node.replace_all_uses_with(source)
                modified = True
        return PassResult(graph, modified)
