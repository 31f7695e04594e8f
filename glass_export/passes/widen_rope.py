"""Give rope whole heads where a model cuts off the channels that are rotated."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from glass_export.graph import CapturedGraph, operand, same_shape, shape_of
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.cancel_transposes import TRANSPOSE, keeps_last
from glass_export.passes.fuse_rotary_attention import ROPE

CAT = torch.ops.aten.cat.default
SLICE = torch.ops.aten.slice.Tensor


class WidenRope(Pass):
    """cat(rope(x[..., :R]), x[..., R:]) -> rope(x): the operator itself leaves the rest alone.

    The rope may stand between two transposes. Does not match when the parts are not the two of
    one tensor.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite every such concatenation."""
        modified = False
        for node in graph.nodes(CAT):
            modified |= _widen(graph, node)
        return PassResult(graph, modified)


def _widen(graph: CapturedGraph, cat: fx.Node) -> bool:
    parts = cat.args[0]
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        return False
    turned, rest = parts
    if not isinstance(turned, fx.Node) or not isinstance(rest, fx.Node):
        return False
    steps, cut = _steps_from_slice(turned)
    if cut is None or rest.target != SLICE or operand(rest, 0) is not operand(cut, 0):
        return False
    whole, width = operand(rest, 0), int(shape_of(cut)[-1])
    full = int(shape_of(whole)[-1])
    if (part_of_last(cut), part_of_last(rest)) != ((0, width), (width, full)):
        return False
    if not same_shape(cat, whole):
        return False
    value = whole
    with graph.graph.inserting_before(cat):
        for step in steps:
            before = value.meta["val"]
            value = graph.graph.create_node("call_function", step.target, (value, *step.args[1:]))
            value.meta["val"] = (
                before.transpose(*step.args[1:]) if step.target == TRANSPOSE else before
            )
    cat.replace_all_uses_with(value)
    return True


def _steps_from_slice(node: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
    """The rope and transposes that lead to ``node``, in order, and the slice that they begin with;
    None: they are no such chain.
    """
    steps: list[fx.Node] = []
    while node.target == ROPE or (node.target == TRANSPOSE and keeps_last(node)):
        steps.insert(0, node)
        node = operand(node, 0)
    is_rotated = any(step.target == ROPE for step in steps)
    return steps, node if is_rotated and node.target == SLICE else None


def part_of_last(node: fx.Node) -> tuple[int, int] | None:
    """First and last channel that a slice takes; None: it is of another dimension, or has gaps."""
    arguments: tuple[Any, ...] = node.args[1:]
    missing: tuple[Any, ...] = (0, None, None, 1)[len(arguments) :]
    axis, start, stop, step = arguments + missing
    shape = shape_of(operand(node, 0))
    if axis % len(shape) != len(shape) - 1 or step != 1:
        return None
    begin, end, _ = slice(start, stop).indices(int(shape[-1]))
    return begin, end
