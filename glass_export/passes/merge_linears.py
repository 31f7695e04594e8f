"""Join linears that read the same input, such as query, key and value, into one."""

from __future__ import annotations

import operator
from collections import defaultdict
from itertools import takewhile

import torch
from torch import fx

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, Weight, operand, shape_of
from glass_export.passes.base import Pass, PassResult

LINEAR = torch.ops.aten.linear.default
SPLIT = torch.ops.aten.split_with_sizes.default


class MergeLinears(Pass):
    """linear(x, A), linear(x, B) -> split(linear(x, [A; B])).

    The joined weight is concatenated only when it is written. Linears are joined when all or none
    of them have a bias.
    """

    def requires(self, graph: CapturedGraph) -> None:
        """Weights must be stored, not computed, or there is nothing to concatenate beforehand."""
        for node in graph.nodes(LINEAR):
            if operand(node, 1).name not in graph.weights:
                raise LoweringError(f"{graph.name}: the weight of {node.name} is computed")

    def call(self, graph: CapturedGraph) -> PassResult:
        """Group by input; groups of one are left alone."""
        groups: dict[tuple[fx.Node, bool], list[fx.Node]] = defaultdict(list)
        for node in graph.nodes(LINEAR):
            groups[operand(node, 0), _bias(node) is not None].append(node)
        siblings = [nodes for nodes in groups.values() if len(nodes) > 1]
        for nodes in siblings:
            _merge(graph, nodes)
        return PassResult(graph, bool(siblings))


def _bias(node: fx.Node) -> fx.Node | None:
    bias = node.args[2] if len(node.args) > 2 else None
    return bias if isinstance(bias, fx.Node) else None


def _merge(graph: CapturedGraph, linears: list[fx.Node]) -> None:
    first = linears[0]
    joined = [_concatenate(graph, [operand(n, 1) for n in linears])]
    biases = [b for n in linears if (b := _bias(n)) is not None]
    if biases:
        joined.append(_concatenate(graph, biases))
    sizes = [int(shape_of(n)[-1]) for n in linears]
    values = [n.meta["val"] for n in linears]
    with graph.graph.inserting_before(first):
        whole = graph.graph.call_function(LINEAR, (first.args[0], *joined))
        parts = graph.graph.call_function(SPLIT, (whole, sizes, -1))
        outs = [graph.graph.call_function(operator.getitem, (parts, i)) for i in range(len(sizes))]
    whole.meta["val"] = values[0].new_empty((*values[0].shape[:-1], sum(sizes)))
    parts.meta["val"] = tuple(values)
    for old, new, value in zip(linears, outs, values, strict=True):
        new.meta["val"] = value
        old.replace_all_uses_with(new)


def _concatenate(graph: CapturedGraph, nodes: list[fx.Node]) -> fx.Node:
    weights = [graph.weight(node) for node in nodes]
    rows = sum(w.shape[0] for w in weights)
    merged = Weight(
        joined_name([w.name for w in weights]),
        (rows, *weights[0].shape[1:]),
        weights[0].dtype,
        lambda: torch.cat([w.load() for w in weights]),
    )
    like = nodes[0].meta["val"].new_empty(merged.shape)
    return graph.add_weight(merged, like)


def joined_name(names: list[str]) -> str:
    """``a.q.weight``, ``a.k.weight`` -> ``a.q+k.weight``; the parts that differ, joined by +."""
    parts = [name.split(".") for name in names]
    first, last = (_common([p[::step] for p in parts]) for step in (1, -1))
    middles = [".".join(p[first : len(p) - last]) for p in parts]
    return ".".join([*parts[0][:first], "+".join(middles), *parts[0][len(parts[0]) - last :]])


def _common(rows: list[list[str]]) -> int:
    """How many items all rows begin with."""
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
