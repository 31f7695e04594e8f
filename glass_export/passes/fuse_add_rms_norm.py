"""Join the residual addition with the norm that follows it."""

from __future__ import annotations

import operator

import torch
from torch import fx

from glass_export.graph import CapturedGraph, operand, same_shape
from glass_export.passes.base import Pass, PassResult

ADD = torch.ops.aten.add.Tensor
RMS_NORM = torch.ops.glass_ir.rms_norm.default
ADD_RMS_NORM = torch.ops.glass_ir.add_rms_norm.default


class FuseAddRmsNorm(Pass):
    """rms_norm(a + b) -> add_rms_norm(a, b); the sum stays available as its second output.

    Does not match additions that broadcast or scale.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite the first norm of every sum."""
        modified = False
        for node in graph.nodes(RMS_NORM):
            total = operand(node, 0)
            if _is_plain_add(total):
                _fuse(graph, node, total)
                modified = True
        return PassResult(graph, modified)


def _is_plain_add(node: fx.Node) -> bool:
    if node.target != ADD or node.kwargs:
        return False
    a, b = node.args[:2]
    return isinstance(a, fx.Node) and isinstance(b, fx.Node) and same_shape(a, b)


def _fuse(graph: CapturedGraph, norm: fx.Node, total: fx.Node) -> None:
    with graph.graph.inserting_after(total):
        fused = graph.graph.call_function(
            ADD_RMS_NORM, (total.args[0], total.args[1], *norm.args[1:])
        )
    with graph.graph.inserting_after(fused):
        parts = [graph.graph.call_function(operator.getitem, (fused, i)) for i in (1, 0)]
    value = norm.meta["val"]
    fused.meta["val"] = (value, value)
    for part in parts:
        part.meta["val"] = value
    norm.replace_all_uses_with(parts[1])
    total.replace_all_uses_with(parts[0], delete_user_cb=lambda user: user is not fused)
