"""Bring a projection whose rows go head by head, each with its own parts, to the order of parts."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

from glass_export.graph import CapturedGraph, Weight, operand, shape_of
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.cancel_transposes import TRANSPOSE
from glass_export.passes.merge_linears import LINEAR, SPLIT

CHUNK = torch.ops.aten.chunk.default
VIEW = torch.ops.aten.view.default


class SortHeads(Pass):
    """chunk(transpose(view(linear(x), [B,S,H,n E]), 1, 2), n, -1) -> the same n tensors [B,H,S,E]
    of split(linear(x)) with sorted rows: part by part, and in each head by head.

    The weight's rows are sorted only when it is written. Does not match when something else reads
    the linear.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite every such projection."""
        modified = False
        for node in graph.nodes(CHUNK):
            modified |= _sort(graph, node)
        return PassResult(graph, modified)


def _sort(graph: CapturedGraph, chunk: fx.Node) -> bool:
    linear, count = _projection(chunk), chunk.args[1]
    if linear is None or not isinstance(count, int):
        return False
    _, heads, _, width = shape_of(operand(chunk, 0))
    if int(width) % count:
        return False
    shape = int(heads), count, int(width) // count
    with graph.graph.inserting_before(linear):
        rows = [_sorted(graph, part, shape) for part in linear.args[1:] if part is not None]
        whole = graph.graph.call_function(LINEAR, (linear.args[0], *rows))
        split = graph.graph.call_function(SPLIT, (whole, [shape[0] * shape[2]] * count, -1))
    whole.meta["val"] = linear.meta["val"]
    split.meta["val"] = tuple(linear.meta["val"].chunk(count, -1))
    for item in list(chunk.users):
        _replace(graph, item, split, shape)
    return True


def _projection(chunk: fx.Node) -> fx.Node | None:
    """The linear that a chunk cuts into the parts of each head."""
    turned, axis = operand(chunk, 0), chunk.args[2] if len(chunk.args) > 2 else 0
    if turned.target != TRANSPOSE or turned.args[1:] != (1, 2) or axis not in (-1, 3):
        return None
    view = operand(turned, 0)
    if view.target != VIEW or len(shape_of(view)) != 4 or len(view.users) > 1:
        return None
    linear = operand(view, 0)
    return linear if linear.target == LINEAR and len(linear.users) == 1 else None


def _replace(graph: CapturedGraph, item: fx.Node, split: fx.Node, shape: tuple[int, ...]) -> None:
    """Put part ``item.args[1]`` of ``split`` in the place of a part of the chunk [B,H,S,E]."""
    index, value = item.args[1], item.meta["val"]
    assert isinstance(index, int)
    with graph.graph.inserting_before(item):
        part = graph.graph.call_function(operator.getitem, (split, index))
        view = graph.graph.call_function(VIEW, (part, [1, -1, shape[0], shape[2]]))
        turned = graph.graph.call_function(TRANSPOSE, (view, 1, 2))
    part.meta["val"] = split.meta["val"][index]
    view.meta["val"], turned.meta["val"] = value.transpose(1, 2), value
    item.replace_all_uses_with(turned)


def _sorted(graph: CapturedGraph, node: object, shape: tuple[int, ...]) -> fx.Node:
    assert isinstance(node, fx.Node)
    weight = graph.weight(node)

    def sort(tensor: Tensor) -> Tensor:
        parts: Tensor = tensor.unflatten(0, shape)
        return parts.transpose(0, 1).flatten(0, 2)

    rows: Weight = weight.derived(f"{weight.name}.sorted", weight.shape, sort)
    return graph.add_weight(rows, node.meta["val"])
