"""Remove the pairs of transposes that a head-first attention layout leaves in a traced graph."""

from __future__ import annotations

import torch
from torch import fx

from glass_export.graph import CapturedGraph
from glass_export.passes.base import Pass, PassResult

TRANSPOSE = torch.ops.aten.transpose.int
RMS_NORM = torch.ops.glass.rms_norm.default


class CancelTransposes(Pass):
    """transpose(transpose(x)) -> x, after moving transposes behind norms over the last dimension."""

    def call(self, graph: CapturedGraph) -> PassResult:
        """Visit the graph in order, so that a moved transpose meets its partner."""
        modified = False
        for node in graph.nodes(RMS_NORM):
            modified |= _sink(graph, node)
        for node in graph.nodes(TRANSPOSE):
            inner = node.args[0]
            if _is_transpose(inner) and _axes(inner) == _axes(node):
                node.replace_all_uses_with(inner.args[0])
                modified = True
        return PassResult(graph, modified)


def _is_transpose(node: object) -> bool:
    return isinstance(node, fx.Node) and node.target == TRANSPOSE


def _axes(node: fx.Node) -> set[int]:
    rank = node.meta["val"].dim()
    return {int(axis) % rank for axis in node.args[1:3]}  # type: ignore[call-overload]  # fx args


def _sink(graph: CapturedGraph, norm: fx.Node) -> bool:
    """norm(transpose(x)) -> transpose(norm(x)) when the last dimension is not moved."""
    moved = norm.args[0]
    if not _is_transpose(moved) or moved.meta["val"].dim() - 1 in _axes(moved):
        return False
    source = moved.args[0]
    with graph.graph.inserting_before(norm):
        inner = graph.graph.call_function(RMS_NORM, (source, *norm.args[1:]))
        outer = graph.graph.call_function(TRANSPOSE, (inner, *moved.args[1:]))
    inner.meta["val"], outer.meta["val"] = source.meta["val"], norm.meta["val"]
    norm.replace_all_uses_with(outer)
    return True
