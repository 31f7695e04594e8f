"""Make of the parts that a fused projection is cut into one split."""

from __future__ import annotations

import operator
from collections import defaultdict
from itertools import pairwise

from torch import fx

from glass_export.graph import CapturedGraph, operand, shape_of
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.merge_linears import SPLIT
from glass_export.passes.widen_rope import SLICE, part_of_last


class SplitSlices(Pass):
    """x[..., :a], x[..., a:b], x[..., b:] -> split(x, [a, b - a, rest]).

    Does not match when the slices leave channels out or overlap.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Group the slices of the last dimension by what they are slices of."""
        whole_of: dict[fx.Node, dict[tuple[int, int], list[fx.Node]]] = defaultdict(dict)
        for node in graph.nodes(SLICE):
            if (part := part_of_last(node)) is not None:
                whole_of[operand(node, 0)].setdefault(part, []).append(node)
        modified = False
        for whole, parts in whole_of.items():
            modified |= _split(graph, whole, parts)
        return PassResult(graph, modified)


def _split(
    graph: CapturedGraph, whole: fx.Node, parts: dict[tuple[int, int], list[fx.Node]]
) -> bool:
    order = sorted(parts)
    joints = [0, *(stop for _, stop in order)]
    if joints[-1] != shape_of(whole)[-1] or [start for start, _ in order] != joints[:-1]:
        return False
    values = [parts[part][0].meta["val"] for part in order]
    with graph.graph.inserting_after(whole):
        split = graph.graph.call_function(
            SPLIT, (whole, [stop - start for start, stop in pairwise(joints)], -1)
        )
    split.meta["val"] = tuple(values)
    for index, (part, value) in enumerate(zip(order, values, strict=True)):
        with graph.graph.inserting_after(split):
            new = graph.graph.call_function(operator.getitem, (split, index))
        new.meta["val"] = value
        for old in parts[part]:
            old.replace_all_uses_with(new)
    return True
