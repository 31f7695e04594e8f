"""Semantic and ATen operators in terms of ONNX and ONNX Runtime's contrib operators.

What depends on the form of the weights, linears and embeddings (``matrices``) and FFNs (``ffn``),
is not here. Every translator takes the translation and an fx node, and returns the node's ONNX
value, or a list of values where the node has several outputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, shape_of
from glass_export.spec import FfnSite
from glass_export.targets.base import ffn_site
from glass_export.targets.onnx.builder import GraphBuilder

MICROSOFT, GLASS = "com.microsoft", "ai.glass"
Values = ir.Value | list[ir.Value]
Translator = Callable[["Translation", fx.Node], Values]


class Translation:
    """One graph on its way to ONNX: what each fx node became."""

    def __init__(
        self,
        source: CapturedGraph,
        builder: GraphBuilder,
        sites: tuple[FfnSite, ...],
        translators: Mapping[Any, Translator],
    ) -> None:
        self.source, self.builder, self.sites = source, builder, sites
        self.translators = translators
        self.values: dict[fx.Node, Values] = {}
        self.memo: dict[str, ir.Value] = {}

    def run(self) -> None:
        """Translate every call of the graph, in order."""
        for node in self.source.nodes():
            translator = self.translators.get(node.target)
            if translator is None:
                raise LoweringError(
                    f"{self.source.name}: operator {node.target} has no ONNX translation; "
                    f"known: {', '.join(sorted(map(str, self.translators)))}"
                )
            self.values[node] = translator(self, node)

    def value(self, argument: object) -> ir.Value:
        """The ONNX value of an fx argument; weights become initializers on first use."""
        if not isinstance(argument, fx.Node):
            raise LoweringError(f"{self.source.name}: expected a tensor argument, got {argument!r}")
        if argument not in self.values:
            self.values[argument] = self.builder.weight(self.source.weight(argument))
        value = self.values[argument]
        if isinstance(value, list):
            raise LoweringError(f"{argument.name}: a single output is needed here")
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """An int64 vector constant."""
        name = "ints" + "".join(f"_{n}" for n in numbers)
        return self.builder.constant(name, np.array(numbers, np.int64))

    def site(self, node: fx.Node) -> FfnSite:
        """The FFN that a node is."""
        return ffn_site(self.source, self.sites, node)


def _binary(kind: str) -> Translator:
    def translate(t: Translation, node: fx.Node) -> Values:
        dtype = np.int64 if node.meta["val"].dtype == torch.int64 else np.float32
        label = "scalar" if dtype == np.float32 else "whole"
        sides = [
            t.value(x)
            if isinstance(x, fx.Node)
            else t.builder.constant(f"{label}_{x}", np.array(x, dtype))
            for x in node.args[:2]
        ]
        return t.builder.op(kind, *sides)

    return translate


def _unary(kind: str) -> Translator:
    return lambda t, node: t.builder.op(kind, t.value(node.args[0]))


def _rms_norm(t: Translation, node: fx.Node) -> Values:
    x, weight, eps = node.args
    return t.builder.op(
        "RMSNormalization",
        t.value(x),
        t.value(weight),
        axis=-1,
        epsilon=eps,
        stash_type=1,
    )


def _layer_norm(t: Translation, node: fx.Node) -> Values:
    x, weight, bias, eps = node.args
    scale = [t.value(part) for part in (weight, bias) if part is not None]
    return t.builder.op("LayerNormalization", t.value(x), *scale, axis=-1, epsilon=eps)


def _add_rms_norm(t: Translation, node: fx.Node) -> Values:
    x, skip, weight, eps = node.args
    inputs = [t.value(x), t.value(skip), t.value(weight)]
    outputs = t.builder.ops(
        "SkipSimplifiedLayerNormalization", inputs, 4, domain=MICROSOFT, epsilon=eps
    )
    for unused in outputs[1:3]:
        unused.name = ""
    return [outputs[0], outputs[3]]


def _lengths(t: Translation, position: object) -> tuple[ir.Value, ir.Value]:
    """Cache contents after this call, in GroupQueryAttention's terms: total - 1 and total."""
    if "total" not in t.memo:
        b, ids = t.builder, t.builder.graph.inputs[0]
        steps = b.op("Shape", ids, start=1, end=2)
        total = b.op("Cast", b.op("Add", t.value(position), steps), to=ir.DataType.INT32)
        one = b.constant("one_int32", np.array(1, np.int32))
        t.memo["last"] = b.op("Sub", total, one)
        t.memo["total"] = b.op("Squeeze", total, t.ints(0))
    return t.memo["last"], t.memo["total"]


def _positions(t: Translation, node: fx.Node) -> Values:
    """[1,T] from the first position on."""
    b = t.builder
    tokens = b.op("Shape", t.value(node.args[0]), start=1, end=2)
    first, count = (b.op("Squeeze", x) for x in (t.value(node.args[1]), tokens))
    one = b.constant("whole_1", np.array(1, np.int64))
    return b.op("Unsqueeze", b.op("Range", first, b.op("Add", first, count), one), t.ints(0))


def _rotated(node: fx.Node, key_cache: fx.Node, cos: fx.Node) -> bool:
    """Whether query and key are rotated.

    Raises:
        LoweringError: they are, and are of a width that ONNX Runtime does not rotate.
    """
    width, rotated = int(shape_of(key_cache)[3]), 2 * int(shape_of(cos)[1])
    if rotated and (width % 16 or rotated % 16):
        raise LoweringError(
            f"{node.name}: heads of {width} channels, {rotated} of them rotated, but ONNX "
            "Runtime's GroupQueryAttention rotates only multiples of 16 of both; use --target "
            "executorch"
        )
    return rotated > 0


def _rotary_attention(t: Translation, node: fx.Node) -> Values:
    (*tensors, heads, scale, window, softcap) = node.args
    query, key, value, key_cache, value_cache, position, cos, sin = tensors
    assert isinstance(key_cache, fx.Node) and isinstance(cos, fx.Node)
    tables = [t.value(cos), t.value(sin)] if (rotated := _rotated(node, key_cache, cos)) else []
    optional = [t.value(x) if x is not None else None for x in (key, value)]
    return t.builder.ops(
        "GroupQueryAttention",
        [
            t.value(query),
            *optional,
            t.value(key_cache),
            t.value(value_cache),
            *_lengths(t, position),
            *tables,
        ],
        3,
        domain=MICROSOFT,
        num_heads=heads,
        kv_num_heads=int(shape_of(key_cache)[1]),
        do_rotary=int(rotated),
        scale=scale,
        local_window_size=window or -1,
        softcap=softcap,
    )


def _reshape(t: Translation, node: fx.Node) -> Values:
    shape: list[int] = node.args[1]  # type: ignore[assignment]  # static by SimplifyReshapes
    return t.builder.op("Reshape", t.value(node.args[0]), t.ints(*shape))


def _split(t: Translation, node: fx.Node) -> Values:
    x, sizes, axis = node.args
    assert isinstance(sizes, list)
    return t.builder.ops("Split", [t.value(x), t.ints(*sizes)], len(sizes), axis=axis)


def _index(t: Translation, node: fx.Node) -> Values:
    x, indices = node.args
    assert isinstance(indices, list)
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if len(axes) != 1:
        raise LoweringError(f"{node.name}: indexing of several dimensions has no ONNX translation")
    return t.builder.op("Gather", t.value(x), t.value(indices[axes[0]]), axis=axes[0])


def _stack(t: Translation, node: fx.Node) -> Values:
    parts = node.args[0]
    assert isinstance(parts, (list, tuple))
    flat = t.builder.ops("Concat", [t.value(p) for p in parts], 1, axis=0)[0]
    return t.builder.op("Reshape", flat, t.ints(len(parts), -1))


def _cat(t: Translation, node: fx.Node) -> Values:
    parts = node.args[0]
    assert isinstance(parts, (list, tuple))
    axis = node.args[1] if len(node.args) > 1 else 0
    return t.builder.ops("Concat", [t.value(p) for p in parts], 1, axis=axis)[0]


def _silu(t: Translation, node: fx.Node) -> Values:
    return t.builder.op("QuickGelu", t.value(node.args[0]), domain=MICROSOFT, alpha=1.0)


def _route(t: Translation, node: fx.Node) -> Values:
    x, weight, count, normalise = node.args
    assert isinstance(count, int)
    b = t.builder
    logits = b.op("FusedMatMul", t.value(x), t.value(weight), domain=MICROSOFT, transB=1)
    likeliest = b.ops("TopK", [b.op("Softmax", logits, axis=-1), t.ints(count)], 2, axis=-1)
    if normalise:
        total = b.op("ReduceSum", likeliest[0], t.ints(-1), keepdims=1)
        likeliest[0] = b.op("Div", likeliest[0], total)
    return likeliest


def _getitem(t: Translation, node: fx.Node) -> Values:
    whole, index = node.args
    assert isinstance(whole, fx.Node) and isinstance(index, int)
    return t.values[whole][index]  # type: ignore[index]  # a list by construction


_ATEN, _GLASS = torch.ops.aten, torch.ops.glass_ir
TRANSLATORS: Mapping[Any, Translator] = {
    _ATEN.add.Tensor: _binary("Add"),
    _ATEN.mul.Tensor: _binary("Mul"),
    _ATEN.div.Tensor: _binary("Div"),
    _ATEN.tanh.default: _unary("Tanh"),
    _ATEN.sigmoid.default: _unary("Sigmoid"),
    _ATEN.silu.default: _silu,
    _ATEN.cat.default: _cat,
    _ATEN.reshape.default: _reshape,
    _ATEN.split_with_sizes.default: _split,
    _ATEN.index.Tensor: _index,
    _ATEN.stack.default: _stack,
    operator.getitem: _getitem,
    _GLASS.layer_norm.default: _layer_norm,
    _GLASS.positions.default: _positions,
    _GLASS.rms_norm.default: _rms_norm,
    _GLASS.route.default: _route,
    _GLASS.add_rms_norm.default: _add_rms_norm,
    _GLASS.rotary_attention.default: _rotary_attention,
}
