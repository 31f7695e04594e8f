"""Remove the pairs of transposes that a head-first attention layout leaves in a traced graph."""

from __future__ import annotations

import torch
from torch import fx

from glass_export.graph import CapturedGraph, operand
from glass_export.passes.base import Pass, PassResult

TRANSPOSE = torch.ops.aten.transpose.int
_NORMS = (torch.ops.glass_ir.rms_norm.default, torch.ops.glass_ir.layer_norm.default)


class CancelTransposes(Pass):
    """transpose(transpose(x)) -> x, also where a norm of the last dimension stands between them."""

    def call(self, graph: CapturedGraph) -> PassResult:
        """Visit the graph in order, so that a transpose moved behind a norm meets its partner."""
        modified = _cancel(graph)
        for node in graph.nodes(*_NORMS):
            modified |= _sink(graph, node)
        return PassResult(graph, _cancel(graph) or modified)


def _cancel(graph: CapturedGraph) -> bool:
    modified = False
    for node in graph.nodes(TRANSPOSE):
        inner = operand(node, 0)
        if inner.target == TRANSPOSE and _axes(inner) == _axes(node):
            node.replace_all_uses_with(operand(inner, 0))
            modified = True
    return modified


def _axes(node: fx.Node) -> set[int]:
    rank = node.meta["val"].dim()
    return {axis % rank for axis in node.args[1:3] if isinstance(axis, int)}


def keeps_last(node: fx.Node) -> bool:
    """Whether a transpose leaves the last dimension where it is."""
    return node.meta["val"].dim() - 1 not in _axes(node)


def _sink(graph: CapturedGraph, norm: fx.Node) -> bool:
    """norm(transpose(x)) -> transpose(norm(x)) when the last dimension is not moved."""
    moved = operand(norm, 0)
    if moved.target != TRANSPOSE or not keeps_last(moved):
        return False
    source = operand(moved, 0)
    with graph.graph.inserting_before(norm):
        inner = graph.graph.create_node("call_function", norm.target, (source, *norm.args[1:]))
        outer = graph.graph.call_function(TRANSPOSE, (inner, *moved.args[1:]))
    inner.meta["val"], outer.meta["val"] = source.meta["val"], norm.meta["val"]
    norm.replace_all_uses_with(outer)
    return True
