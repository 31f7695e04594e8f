"""Let attention rotate query and key itself, and take them packed where they come packed."""

from __future__ import annotations

import operator

import torch
from torch import fx

from glass_export.graph import CapturedGraph, same_shape
from glass_export.passes.base import Pass, PassResult
from glass_export.passes.merge_linears import SPLIT
from glass_export.passes.simplify_reshapes import RESHAPE

ATTENTION = torch.ops.glass.attention.default
ROTARY_ATTENTION = torch.ops.glass.rotary_attention.default
ROPE = torch.ops.glass.rope.default


class FuseRotaryAttention(Pass):
    """attention(rope(q), rope(k), v) -> rotary_attention(q, k, v), or (qkv) when they are one split.

    Does not match when query and key are rotated by different tables or at other positions.
    """

    def call(self, graph: CapturedGraph) -> PassResult:
        """Rewrite every attention whose query and key both come from a rope."""
        modified = False
        for node in graph.nodes(ATTENTION):
            modified |= _fuse(graph, node)
        return PassResult(graph, modified)


def _fuse(graph: CapturedGraph, node: fx.Node) -> bool:
    query, key, value, key_cache, value_cache, position, *settings = node.args
    ropes = [_rope_before(x) for x in (query, key)]
    if ropes[0] is None or ropes[1] is None or ropes[0].args[1:] != ropes[1].args[1:]:
        return False
    _, cos, sin, rope_position = ropes[0].args
    if rope_position is not position:
        return False
    with graph.graph.inserting_before(node):
        sources = [_flat(graph, rope, x) for rope, x in zip(ropes, (query, key))]
        packed = _packed([*sources, value])
        inputs = (packed, None, None) if packed is not None else (*sources, value)
        fused = graph.graph.call_function(
            ROTARY_ATTENTION, (*inputs, key_cache, value_cache, position, cos, sin, *settings)
        )
    fused.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(fused)
    return True


def _rope_before(flat: object) -> fx.Node | None:
    """The rope whose flattened output ``flat`` is."""
    if not (isinstance(flat, fx.Node) and flat.target == RESHAPE):
        return None
    rope = flat.args[0]
    return rope if isinstance(rope, fx.Node) and rope.target == ROPE else None


def _flat(graph: CapturedGraph, rope: fx.Node, flat: fx.Node) -> fx.Node:
    """The rope's input in the flat shape [B,S,H*E]."""
    source = rope.args[0]
    assert isinstance(source, fx.Node)
    inner = source.args[0] if source.target == RESHAPE else None
    if isinstance(inner, fx.Node) and same_shape(inner, flat):
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
