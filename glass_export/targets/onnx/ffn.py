"""The forms of an FFN: how its weights are stored, and how decode learns which neurons to use.

Legend: T tokens, L layers, D model width, F FFN width, K kept neurons.

| form | weights | decode |
|---|---|---|
| rows | float32, gate over up [2,F,D] and down [F,D] | rows of the chosen neurons are inputs |
| nbits | integers of gate over up by rows, of down by channels | a session made for the choice |
| bundles | one run of bytes for each neuron | their indices are an input |

A plain FFN has up [F,D] in the place of gate over up, and may have a bias [F].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from glass_export.bundles import GROUP, quantise
from glass_export.graph import CapturedGraph, Weight
from glass_export.recipe import Dtype, TargetRecipe
from glass_export.spec import FfnSite, TensorSpec
from glass_export.targets.base import ffn_weights
from glass_export.targets.integer import named
from glass_export.targets.onnx.builder import GraphBuilder
from glass_export.targets.onnx.matrices import integer_rows, matmul_nbits, stored_names
from glass_export.targets.onnx.nbits import BITS, CHANNEL_BLOCK, quantise_channels
from glass_export.targets.onnx.translate import (
    GLASS,
    MICROSOFT,
    Translation,
    Translator,
    Values,
)
from glass_export.targets.onnx.weights import Arrays

_GLASS_IR = torch.ops.glass_ir
_SCORING = _GLASS_IR.scoring_ffn.default
_SPARSE = _GLASS_IR.sparse_ffn.default


@dataclass(frozen=True, slots=True)
class FfnForm:
    """``translators`` of both FFN operators; ``declare_choice`` adds decode's inputs, given the
    node of the chosen indices; ``packed``: a graph of its own gathers the rows of the choice.
    """

    translators: Mapping[Any, Translator]
    declare_choice: Callable[[Translation, fx.Node], None]
    packed: bool = False


def ffn_form(options: TargetRecipe) -> FfnForm:
    """The form that a recipe asks for."""
    if options.custom_ops:
        return _bundles(options.dtype)
    return ROWS if options.dtype == "fp32" else _nbits(options.dtype)


# Shared by the forms of stock operators.


def _activate(b: GraphBuilder, x: ir.Value, activation: str) -> ir.Value:
    if activation == "silu":
        return b.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)
    if activation == "gelu_tanh":
        return b.op("FastGelu", x, domain=MICROSOFT)
    if activation == "gelu":
        return b.op("Gelu", x, approximate="none")
    return b.op("Relu", x)


def _plain(b: GraphBuilder, up: ir.Value, bias: ir.Value | None, activation: object) -> ir.Value:
    """act(up + bias)."""
    return _activate(b, up if bias is None else b.op("Add", up, bias), str(activation))


def _gated(b: GraphBuilder, both: ir.Value, axis: int, activation: object) -> ir.Value:
    """act(gate) * up, with both side by side along ``axis``."""
    gate, up = b.ops("Split", [both], 2, axis=axis, num_outputs=2)
    return b.op("Mul", _activate(b, gate, str(activation)), up)


def _with_scores(t: Translation, node: fx.Node, hidden: ir.Value, out: ir.Value) -> list[ir.Value]:
    """The outputs of scoring_ffn from h [1,T,F] and y.

    u_t m_t comes from one norm whose scale is the mask, as m_t is 0 or 1.
    """
    *_, score_weights, _ = node.args
    scale = _score_scale(t, score_weights, t.site(node).d_ff)
    unit = t.builder.op("RMSNormalization", hidden, scale, axis=-1, epsilon=1e-30, stash_type=1)
    axes = t.ints(0, 1)
    sums = [t.builder.op(k, unit, axes, keepdims=0) for k in ("ReduceL1", "ReduceSumSquare")]
    return [out, *sums]


def _score_scale(t: Translation, score_weights: object, d_ff: int) -> ir.Value:
    """m_t / sqrt(F) for every neuron [1,T,F]; an RMS norm is sqrt(F) times a unit vector."""
    key = f"score_scale_{d_ff}"
    if key not in t.memo:
        b = t.builder
        column = b.op("Reshape", t.value(score_weights), t.ints(1, -1, 1))
        row = b.constant(key, np.full((1, 1, d_ff), d_ff**-0.5, np.float32))
        t.memo[key] = b.op("Mul", column, row)
    return t.memo[key]


def _inputs(source: CapturedGraph, site: FfnSite) -> dict[str, Weight]:
    """What comes before down: ``gate_up`` [2,F,D], or ``up`` [F,D] and perhaps ``bias`` [F]."""
    ffn = ffn_weights(source, site)
    first, last = ffn.inputs[0], ffn.inputs[-1]
    if ffn.gated:
        both = first.derived(
            f"ffn.{site.layer}.gate_up",
            (2, *first.shape),
            lambda tensor: torch.stack([tensor, last.load()]),
        )
        return {"gate_up": both}
    parts = {"up": first} | ({} if ffn.bias is None else {"bias": ffn.bias})
    return {part: replace(w, name=f"ffn.{site.layer}.{part}") for part, w in parts.items()}


# Rows: float32 on any ONNX Runtime.


def ffn_rows(source: CapturedGraph, site: FfnSite) -> dict[str, Weight]:
    """What comes before down, and ``down`` neuron by neuron [F,D]."""
    down = ffn_weights(source, site).down
    rows = down.derived(f"ffn.{site.layer}.down", down.shape[::-1], lambda tensor: tensor.T)
    return _inputs(source, site) | {"down": rows}


def _rows_hidden(t: Translation, node: fx.Node, rows: Mapping[str, ir.Value]) -> ir.Value:
    """The activation h [1,T,F] or [1,T,K]."""
    x, activation = t.value(node.args[0]), node.args[-1]
    first = rows["gate_up"] if "gate_up" in rows else rows["up"]
    product = t.builder.op("FusedMatMul", x, first, domain=MICROSOFT, transB=1)
    if "gate_up" in rows:
        return _gated(t.builder, product, 0, activation)
    return _plain(t.builder, product, rows.get("bias"), activation)


def _scoring_rows(t: Translation, node: fx.Node) -> Values:
    weights = ffn_rows(t.source, t.site(node))
    rows = {part: t.builder.weight(weight) for part, weight in weights.items()}
    hidden = _rows_hidden(t, node, rows)
    return _with_scores(t, node, hidden, t.builder.op("MatMul", hidden, rows["down"]))


def _sparse_rows(t: Translation, node: fx.Node) -> Values:
    site = t.site(node)
    rows = {part: t.memo[f"{part}.{site.layer}"] for part in ffn_rows(t.source, site)}
    return t.builder.op("MatMul", _rows_hidden(t, node, rows), rows["down"])


def neuron_axis(part: str) -> int:
    """The dimension of a part of ``ffn_rows`` that counts neurons."""
    return -1 if part == "bias" else -2


def row_specs(source: CapturedGraph, site: FfnSite) -> dict[str, TensorSpec]:
    """The chosen neurons' rows of one layer, as pack gives and decode takes them.

    Every layer has a dimension of its own: ONNX Runtime gives the same memory to values whose
    symbolic shapes are the same, and fails when one is larger than the other after all.
    """
    specs = {}
    for part, weight in ffn_rows(source, site).items():
        shape: list[int | str] = list(weight.shape)
        shape[neuron_axis(part)] = f"K_{site.layer}"
        specs[part] = TensorSpec(name=f"{part}.{site.layer}", dtype="float32", shape=tuple(shape))
    return specs


def _declare_rows(t: Translation, _: fx.Node) -> None:
    for site in t.sites:
        for spec in row_specs(t.source, site).values():
            t.memo[spec.name] = t.builder.input(spec)


ROWS = FfnForm({_SCORING: _scoring_rows, _SPARSE: _sparse_rows}, _declare_rows, packed=True)


# MatMulNBits: integers on any ONNX Runtime. Its weights have to be constants, so the driver makes
# a session for each choice of neurons, out of a graph that is written for all of them.


def _nbits(form: Dtype) -> FfnForm:
    assert form != "fp32"

    def hidden(t: Translation, node: fx.Node) -> ir.Value:
        site, b = t.site(node), t.builder
        inputs = _inputs(t.source, site)
        gated, bias = "gate_up" in inputs, inputs.get("bias")
        product = matmul_nbits(
            b,
            t.value(node.args[0]),
            integer_rows(b, inputs["gate_up" if gated else "up"], form),
            None if bias is None else b.weight(bias),
            K=site.d_model,
            N=(2 if gated else 1) * site.d_ff,
            bits=BITS[form],
            block_size=GROUP,
        )
        if gated:
            return _gated(b, product, -1, node.args[-1])
        return _activate(b, product, str(node.args[-1]))

    def scoring(t: Translation, node: fx.Node) -> Values:
        h = hidden(t, node)
        return _with_scores(t, node, h, _down_nbits(t, node, h))

    def sparse(t: Translation, node: fx.Node) -> Values:
        return _down_nbits(t, node, hidden(t, node))

    return FfnForm({_SCORING: scoring, _SPARSE: sparse}, lambda t, node: None)


def _down_nbits(t: Translation, node: fx.Node, hidden: ir.Value) -> ir.Value:
    """The down projection: int8 by channels, whatever the format of the others."""
    site = t.site(node)
    down = ffn_weights(t.source, site).down
    names = stored_names(f"ffn.{site.layer}.down")

    def make() -> Arrays:
        integers, scales = quantise_channels(down.load().detach().float().contiguous().numpy())
        every_block = np.repeat(scales, integers.shape[1], axis=1)
        return dict(zip(names, (integers, every_block), strict=True))

    stored = [t.builder.stored(names[0], math.prod(down.shape), make), t.builder.shared(names[1])]
    return matmul_nbits(
        t.builder, hidden, stored, K=site.d_ff, N=site.d_model, bits=8, block_size=CHANNEL_BLOCK
    )


# Bundles: the project's own operators read the chosen neurons in place.


def _bundles(dtype: Dtype) -> FfnForm:
    def scoring(t: Translation, node: fx.Node) -> Values:
        *_, score_weights, activation = node.args
        name, inputs = _operator(t, node, dtype, "DenseFFN", score_weights)
        return t.builder.ops(name, inputs, 3, domain=GLASS, activation=activation)

    def sparse(t: Translation, node: fx.Node) -> Values:
        *_, indices, layer, activation = node.args
        name, inputs = _operator(t, node, dtype, "SparseFFN", indices)
        return t.builder.op(name, *inputs, domain=GLASS, layer=layer, activation=activation)

    def scoring_experts(t: Translation, node: fx.Node) -> Values:
        x, index, weight, _, _, score_weights, activation = node.args
        inputs = [*map(t.value, (x, index, weight)), _bundle(t, node, dtype)]
        return t.builder.ops(
            "DenseExperts",
            [*inputs, t.value(score_weights)],
            3,
            domain=GLASS,
            experts=t.site(node).experts,
            activation=activation,
        )

    def sparse_experts(t: Translation, node: fx.Node) -> Values:
        x, index, weight, _, _, indices, first_row, activation = node.args
        return t.builder.op(
            "SparseExperts",
            *map(t.value, (x, index, weight)),
            _bundle(t, node, dtype),
            t.value(indices),
            domain=GLASS,
            experts=t.site(node).experts,
            first_row=first_row,
            activation=activation,
        )

    translators = {
        _SCORING: scoring,
        _SPARSE: sparse,
        _GLASS_IR.scoring_experts.default: scoring_experts,
        _GLASS_IR.sparse_experts.default: sparse_experts,
    }
    return FfnForm(translators, _declare_indices)


def _declare_indices(t: Translation, node: fx.Node) -> None:
    rows = sum(site.rows for site in t.sites)
    spec = TensorSpec(name=node.name, dtype="int32", shape=(rows, "K"))
    t.values[node] = t.builder.input(spec)


def _operator(
    t: Translation, node: fx.Node, dtype: Dtype, name: str, third: object
) -> tuple[str, list[ir.Value]]:
    """Name and inputs of an operator: x, the bundle, ``third``, and a bias if there is one."""
    inputs = [t.value(node.args[0]), _bundle(t, node, dtype), t.value(third)]
    parts = _inputs(t.source, t.site(node))
    if "bias" in parts:
        inputs.append(t.builder.weight(parts["bias"]))
    return (name if "gate_up" in parts else f"Plain{name}"), inputs


def _bundle(t: Translation, node: fx.Node, dtype: Dtype) -> ir.Value:
    """One layer's bundles: float32 [F,3,D] or [F,2,D], or the bytes of ``bundles.quantise``.

    Those of experts lie one after the other, F being the neurons of all of them.
    """
    site = t.site(node)
    floats = ffn_weights(t.source, site).bundle()
    name = f"ffn.{site.layer}.bundle"

    def make() -> Arrays:
        stacked = floats.load().float().numpy()
        if dtype == "fp32":
            return {name: stacked}
        with named(site.path):
            return {name: quantise(stacked, dtype)}

    return t.builder.stored(name, math.prod(floats.shape), make)
