"""Linears and embeddings: float32, or integers in ``MatMulNBits`` and ``GatherBlockQuantized``.

A tied head and embedding read the same stored integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from glass_export.bundles import GROUP, BundleFormat, FloatArray, quantise_rows
from glass_export.graph import Weight, operand
from glass_export.recipe import Dtype
from glass_export.targets.integer import named
from glass_export.targets.onnx.builder import GraphBuilder
from glass_export.targets.onnx.nbits import BITS, repack_rows
from glass_export.targets.onnx.translate import MICROSOFT, Translation, Translator, Values
from glass_export.targets.onnx.weights import Arrays

_ATEN = torch.ops.aten
_INT8_INPUT = 4
"""MatMulNBits' accuracy_level at which it rounds its input to int8, block by block."""


def translators(dtype: Dtype) -> Mapping[Any, Translator]:
    """How linears and embeddings are written in a number format."""
    if dtype == "fp32":
        return {_ATEN.linear.default: _linear, _ATEN.embedding.default: _embedding}
    return {
        _ATEN.linear.default: _integer(_integer_linear, dtype),
        _ATEN.embedding.default: _integer(_integer_embedding, dtype),
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
            rows = quantise_rows(_matrix(weight.load()), form)
        return dict(zip(names, repack_rows(rows, form), strict=True))

    builder.weights.add(names[0], math.prod(weight.shape), make)
    return names


def _matrix(tensor: Tensor) -> FloatArray:
    """A weight as rows [N,D] of float32; leading dimensions become one."""
    return tensor.detach().to(torch.float32).reshape(-1, tensor.shape[-1]).contiguous().numpy()


def _integer(
    translate: Callable[[Translation, fx.Node, BundleFormat], Values], form: BundleFormat
) -> Translator:
    return lambda t, node: translate(t, node, form)


def _embedding(t: Translation, node: fx.Node) -> Values:
    return t.builder.op("Gather", t.value(node.args[0]), t.value(node.args[1]), axis=0)


def _linear(t: Translation, node: fx.Node) -> Values:
    x, weight = t.value(node.args[0]), t.value(node.args[1])
    out = t.builder.op("FusedMatMul", x, weight, domain=MICROSOFT, transB=1)
    if len(node.args) > 2 and node.args[2] is not None:
        out = t.builder.op("Add", out, t.value(node.args[2]))
    return out


def _integer_linear(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
    weight = t.source.weight(operand(node, 1))
    biased = len(node.args) > 2 and node.args[2] is not None
    return matmul_nbits(
        t.builder,
        t.value(node.args[0]),
        integer_rows(t.builder, weight, form),
        t.value(node.args[2]) if biased else None,
        K=weight.shape[1],
        N=weight.shape[0],
        bits=BITS[form],
        block_size=GROUP,
    )


def _integer_embedding(t: Translation, node: fx.Node, form: BundleFormat) -> Values:
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
