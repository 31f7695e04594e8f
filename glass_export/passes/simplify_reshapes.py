"""Bring all views to one form and drop those that change nothing."""

from __future__ import annotations

import torch
from torch import fx

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, operand, same_shape, shape_of
from glass_export.passes.base import Pass, PassResult

RESHAPE = torch.ops.aten.reshape.default
_NORMS = (torch.ops.glass_ir.rms_norm.default, torch.ops.glass_ir.layer_norm.default)
_VIEWS = (
    torch.ops.aten.view.default,
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.unflatten.int,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.unsqueeze.default,
)


class SimplifyReshapes(Pass):
    """Every view becomes reshape(x, static shape, -1 for the one dynamic dimension).

    A reshape of a reshape skips the inner one, one that keeps the shape goes away, and one that
    keeps the last dimension moves behind a norm (so that a single key/value head needs none).
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Normalise first, then simplify in graph order."""
        modified = False
        for node in graph.nodes(*_VIEWS, RESHAPE):
            modified |= _normalise(node)
        for node in graph.nodes(*_NORMS):
            modified |= _sink(graph, node)
        for node in graph.nodes(RESHAPE):
            modified |= _simplify(node)
        return PassResult(graph, modified)

    def ensures(self, graph: CapturedGraph) -> None:
        """Later passes look for reshapes alone."""
        for node in graph.nodes(*_VIEWS):
            raise LoweringError(f"{graph.name}: {node.name} is still a {node.target}")


def _static_shape(node: fx.Node) -> list[int]:
    shape = [d if isinstance(d, int) else -1 for d in shape_of(node)]
    if shape.count(-1) > 1:
        raise LoweringError(f"{node.name}: a reshape with two dynamic dimensions {shape_of(node)}")
    return shape


def _normalise(node: fx.Node) -> bool:
    wanted = (node.args[0], _static_shape(node))
    if node.target == RESHAPE and tuple(node.args) == wanted:
        return False
    node.target, node.args, node.kwargs = RESHAPE, wanted, {}
    return True


def _sink(graph: CapturedGraph, norm: fx.Node) -> bool:
    """norm(reshape(x)) -> reshape(norm(x)) when the last dimension keeps its width."""
    view = operand(norm, 0)
    if view.target != RESHAPE:
        return False
    source = operand(view, 0)
    if shape_of(source)[-1] != shape_of(view)[-1]:
        return False
    with graph.graph.inserting_before(norm):
        inner = graph.graph.create_node("call_function", norm.target, (source, *norm.args[1:]))
        outer = graph.graph.call_function(RESHAPE, (inner, _static_shape(view)))
    inner.meta["val"], outer.meta["val"] = source.meta["val"], norm.meta["val"]
    norm.replace_all_uses_with(outer)
    return True


def _simplify(node: fx.Node) -> bool:
    modified, source = False, operand(node, 0)
    while source.target == RESHAPE:
        source, modified = operand(source, 0), True
    node.args = (source, node.args[1])
    if same_shape(source, node):
        node.replace_all_uses_with(source)
        return True
    return modified
