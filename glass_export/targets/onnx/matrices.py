"""Linears and embeddings, and how their weights are stored. Legend: N rows, D weights of a row.

| form | weights | operators |
|---|---|---|
| float32 | [N,D] | ``FusedMatMul``, ``Gather`` |
| nbits | integers and scales apart | ``MatMulNBits``, ``GatherBlockQuantized`` |
| rows | one run of bytes for each row | ``Linear``, ``Embedding`` of the project |

A tied head and embedding read the same stored integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from glass_export.bundles import GROUP, BundleFormat
from glass_export.graph import Weight, operand, shape_of
from glass_export.recipe import TargetRecipe
from glass_export.targets.integer import named
from glass_export.targets.onnx.builder import GraphBuilder
from glass_export.targets.onnx.nbits import BITS, repack_rows
from glass_export.targets.onnx.translate import (
    GLASS,
    MICROSOFT,
    Translation,
    Translator,
    Values,
)
from glass_export.targets.onnx.weights import Arrays
from glass_export.targets.rounding import stored_rows

_ATEN = torch.ops.aten
_INT8_INPUT = 4
"""MatMulNBits' accuracy_level at which it rounds its input to int8, block by block."""


def translators(options: TargetRecipe) -> Mapping[Any, Translator]:
    """How linears and embeddings are written in the form that a recipe asks for."""
    if options.dtype == "fp32":
        return {_ATEN.linear.default: _linear, _ATEN.embedding.default: _embedding}
    own = options.custom_ops
    linear, embedding = (
        (_rows_linear, _rows_embedding) if own else (_nbits_linear, _nbits_embedding)
    )
    return {
        _ATEN.linear.default: _integer(linear, options.dtype),
        _ATEN.embedding.default: _integer(embedding, options.dtype),
    }


def integer_rows(builder: GraphBuilder, weight: Weight, form: BundleFormat) -> list[ir.Value]:
    """The initializers of a matrix [N,D]: integers [N,D/32,bytes] and scales [N,D/32].

    Raises:
        LoweringError: a row is not a multiple of 32 long, or a weight does not fit; names it.
    """
    return [builder.shared(name) for name in _store_rows(builder, weight, form)]


def stored_names(name: str) -> tuple[str, str]:
    """Names of the integers and the scales of a weight."""
    return f"{name}.integers", f"{name}.scales"


def matmul_nbits(
    builder: GraphBuilder,
    x: ir.Value,
    stored: list[ir.Value],
    bias: ir.Value | None = None,
    **attributes: int,
) -> ir.Value:
    """``x`` times the transpose of a stored matrix; ``attributes``: K, N, bits and block_size."""
    optional = [] if bias is None else [None, None, bias]
    return builder.op(
        "MatMulNBits",
        x,
        *stored,
        *optional,
        domain=MICROSOFT,
        accuracy_level=_INT8_INPUT,
        **attributes,
    )


def _store_rows(builder: GraphBuilder, weight: Weight, form: BundleFormat) -> tuple[str, str]:
    names = stored_names(weight.name)

    def make() -> Arrays:
        with named(weight.name):
            rows = stored_rows(weight, form)
        return dict(zip(names, repack_rows(rows, form), strict=True))

    builder.weights.add(names[0], math.prod(weight.shape), make)
    return names


def _integer(
    translate: Callable[[Translation, fx.Node, BundleFormat], Values], form: BundleFormat
) -> Translator:
    return lambda t, node: translate(t, node, form)


def _bias(t: Translation, node: fx.Node) -> ir.Value | None:
    """A linear's bias [N]."""
    biased = len(node.args) > 2 and node.args[2] is not None
    return t.value(node.args[2]) if biased else None


def _linear(t: Translation, node: fx.Node) -> Values:
    x, weight = t.value(node.args[0]), t.value(node.args[1])
    out = t.builder.op("FusedMatMul", x, weight, domain=MICROSOFT, transB=1)
    bias = _bias(t, node)
    return out if bias is None else t.builder.op("Add", out, bias)


def _embedding(t: Translation, node: fx.Node) -> Values:
    return t.builder.op("Gather", t.value(node.args[0]), t.value(node.args[1]), axis=0)


def _nbits_linear(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
    weight = t.source.weight(operand(node, 1))
    return matmul_nbits(
        t.builder,
        t.value(node.args[0]),
        integer_rows(t.builder, weight, form),
        _bias(t, node),
        K=weight.shape[1],
        N=weight.shape[0],
        bits=BITS[form],
        block_size=GROUP,
    )


def _nbits_embedding(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
    weight = t.source.weight(operand(node, 0))
    integers, scales = _store_rows(t.builder, weight, form)
    count, depth = weight.shape
    # The bytes that MatMulNBits reads; this operator wants them in the rank of the scales.
    rows = t.builder.view(f"{weight.name}.rows", integers, (count, depth * BITS[form] // 8))
    return t.builder.op(
        "GatherBlockQuantized",
        rows,
        t.value(node.args[1]),
        t.builder.shared(scales),
        domain=MICROSOFT,
        gather_axis=0,
        quantize_axis=1,
        block_size=GROUP,
        bits=BITS[form],
    )


def _rows_linear(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
    inputs = [t.value(node.args[0]), _rows(t, t.source.weight(operand(node, 1)), form)]
    if (bias := _bias(t, node)) is not None:
        inputs.append(bias)
    return _with_shape(t.builder.op("Linear", *inputs, domain=GLASS), node)


def _rows_embedding(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
    weight = t.source.weight(operand(node, 0))
    rows, ids = _rows(t, weight, form), t.value(node.args[1])
    out = t.builder.op("Embedding", rows, ids, domain=GLASS, width=weight.shape[1])
    return _with_shape(out, node)


def _with_shape(value: ir.Value, node: fx.Node) -> ir.Value:
    """Write down the shape: ONNX Runtime cannot infer it here, and stock operators ask for it."""
    sizes = [size if isinstance(size, int) else None for size in shape_of(node)]
    value.shape, value.type = ir.Shape(sizes), ir.TensorType(ir.DataType.FLOAT)
    return value


def _rows(t: Translation, weight: Weight, form: BundleFormat) -> ir.Value:
    """The bytes of a matrix [N,D] as ``bundles.quantise_rows`` gives them."""
    name = f"{weight.name}.rows"

    def make() -> Arrays:
        with named(weight.name):
            return {name: stored_rows(weight, form)}

    return t.builder.stored(name, math.prod(weight.shape), make)
