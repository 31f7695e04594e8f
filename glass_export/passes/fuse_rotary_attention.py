"""Let attention rotate query and key itself, and take them packed where they come packed.

Attention that rotates nothing, in layers without a rotary embedding, gets empty tables.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from glass_export.graph import CapturedGraph, Weight, operand, same_shape, shape_of
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.merge_linears import SPLIT
from glass_export.passes.simplify_reshapes import RESHAPE

ATTENTION = torch.ops.glass_ir.attention.default
ROTARY_ATTENTION = torch.ops.glass_ir.rotary_attention.default
ROPE = torch.ops.glass_ir.rope.default
NO_TABLE = "no_rotation"


class FuseRotaryAttention(Pass):
    """attention(rope(q), rope(k), v) -> rotary_attention(q, k, v), or (qkv) when split from one.

    Does not match when query and key are rotated by different tables or at other positions, or
    one of them alone.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite every attention whose query and key both come from a rope, or neither does."""
        modified = False
        for node in graph.nodes(ATTENTION):
            modified |= _fuse(graph, node)
        return PassResult(graph, modified)


def _fuse(graph: CapturedGraph, node: fx.Node) -> bool:
    value, key_cache, value_cache, position, *settings = node.args[2:]
    flats = [operand(node, i) for i in (0, 1)]
    ropes = [_rope_before(flat) for flat in flats]
    if (tables := _tables(graph, node, ropes)) is None:
        return False
    with graph.graph.inserting_before(node):
        sources = [_flat(graph, rope, flat) for rope, flat in zip(ropes, flats, strict=True)]
        packed = _packed([*sources, value])
        inputs = (packed, None, None) if packed is not None else (*sources, value)
        fused = graph.graph.call_function(
            ROTARY_ATTENTION, (*inputs, key_cache, value_cache, position, *tables, *settings)
        )
    fused.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(fused)
    return True


def _tables(
    graph: CapturedGraph, node: fx.Node, ropes: list[fx.Node | None]
) -> tuple[Any, Any] | None:
    """Cosine and sine table of both query and key; None: they have not got the same."""
    query, key = ropes
    if query is None and key is None:
        table = _no_table(graph, operand(node, 3))
        return table, table
    if query is None or key is None or query.args[1:] != key.args[1:]:
        return None
    _, cos, sin, position = query.args
    return (cos, sin) if position is node.args[5] else None


def _no_table(graph: CapturedGraph, key_cache: fx.Node) -> fx.Node:
    """An empty table of angles [C,0], one for all layers."""
    length = int(shape_of(key_cache)[2])
    for node in graph.graph.nodes:
        if isinstance(node, fx.Node) and node.name == NO_TABLE:
            return node
    weight = Weight.of(NO_TABLE, torch.empty(length, 0))
    return graph.add_weight(weight, key_cache.meta["val"].new_empty(weight.shape))


def _rope_before(flat: fx.Node) -> fx.Node | None:
    """The rope whose flattened output ``flat`` is."""
    if flat.target != RESHAPE or operand(flat, 0).target != ROPE:
        return None
    return operand(flat, 0)


def _flat(graph: CapturedGraph, rope: fx.Node | None, flat: fx.Node) -> fx.Node:
    """The rope's input in the flat shape [B,S,H*E], or what is not rotated."""
    if rope is None:
        return flat
    source = operand(rope, 0)
    if source.target == RESHAPE and same_shape(inner := operand(source, 0), flat):
        return inner
    node = graph.graph.call_function(RESHAPE, (source, flat.args[1]))
    node.meta["val"] = flat.meta["val"]
    return node


def _packed(parts: list[object]) -> fx.Node | None:
    """The tensor whose three consecutive parts these are."""
    splits = set()
    for index, part in enumerate(parts):
        if not (isinstance(part, fx.Node) and part.target == operator.getitem):
            return None
        split, position = part.args
        if not (isinstance(split, fx.Node) and split.target == SPLIT and position == index):
            return None
        splits.add(split)
    (split, *others) = splits
    if others or len(split.args[1]) != len(parts):  # type: ignore[arg-type]  # list of sizes
        return None
    whole = split.args[0]
    return whole if isinstance(whole, fx.Node) else None
