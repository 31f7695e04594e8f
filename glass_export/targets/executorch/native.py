"""The dialect that uses the project's own operators: few nodes a layer, FFN weights in place.

In float32 linears are left to XNNPACK; integer linears are the project's own too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

import glass_export.ops.expert_kernels
import glass_export.ops.kernels  # noqa: F401  (registers torch.ops.glass)
from glass_export.bundles import BundleFormat, bundle_bytes, quantise, row_bytes
from glass_export.graph import Weight, shape_of
from glass_export.ops.kernels import ACTIVATION_CODES
from glass_export.recipe import Dtype
from glass_export.targets.base import SiteWeights
from glass_export.targets.executorch.common import COMMON
from glass_export.targets.executorch.module import EMBEDDING, LINEAR, Dialect, LoweredModule
from glass_export.targets.rounding import stored_rows

_IR, _KERNELS = torch.ops.glass_ir, torch.ops.glass


def _bundle(ffn: SiteWeights) -> dict[str, Weight]:
    """The FFN's weights neuron by neuron, and the bias of a plain FFN that has one."""
    return {"bundle": ffn.bundle()} | ({} if ffn.bias is None else {"bias": ffn.bias})


def _integer_bundle(form: BundleFormat, ffn: SiteWeights) -> dict[str, Weight]:
    """The same with integers, uint8 [F,bytes]."""
    floats = ffn.bundle()
    count, _, depth = floats.shape
    shape = (count, bundle_bytes(depth, form, gated=ffn.gated))

    def load() -> Tensor:
        array: np.ndarray = floats.load().detach().float().numpy()
        return torch.from_numpy(quantise(array, form))

    return _bundle(ffn) | {"bundle": Weight("bundle", shape, torch.uint8, load)}


def _integer_rows(form: BundleFormat, weight: Weight) -> Weight:
    """Rows [N,D] of a linear or embedding in integers, uint8 [N,bytes]."""
    count, depth = weight.shape
    return Weight(
        weight.name,
        (count, row_bytes(depth, form)),
        torch.uint8,
        lambda: torch.from_numpy(stored_rows(weight, form)),
    )


def _scoring_ffn(m: LoweredModule, node: fx.Node) -> Any:
    x, gate, *_, score_weights, activation = node.args
    rest = m.value(score_weights), ACTIVATION_CODES[str(activation)]
    ffn = m.ffn(node)
    if gate is not None:
        return _KERNELS.dense_ffn(m.value(x), ffn["bundle"], *rest)
    return _KERNELS.plain_dense_ffn(m.value(x), ffn["bundle"], ffn.get("bias"), *rest)


def _sparse_ffn(m: LoweredModule, node: fx.Node) -> Any:
    x, gate, *_, indices, layer, activation = node.args
    rest = m.value(indices), layer, ACTIVATION_CODES[str(activation)]
    ffn = m.ffn(node)
    if gate is not None:
        return _KERNELS.sparse_ffn(m.value(x), ffn["bundle"], *rest)
    return _KERNELS.plain_sparse_ffn(m.value(x), ffn["bundle"], ffn.get("bias"), *rest)


def _scoring_experts(m: LoweredModule, node: fx.Node) -> Any:
    x, index, weight, _, _, score_weights, activation = node.args
    return _KERNELS.dense_experts(
        *map(m.value, (x, index, weight)),
        m.ffn(node)["bundle"],
        m.value(score_weights),
        m.site(node).experts,
        ACTIVATION_CODES[str(activation)],
    )


def _sparse_experts(m: LoweredModule, node: fx.Node) -> Any:
    x, index, weight, _, _, indices, first_row, activation = node.args
    return _KERNELS.sparse_experts(
        *map(m.value, (x, index, weight)),
        m.ffn(node)["bundle"],
        m.value(indices),
        m.site(node).experts,
        first_row,
        ACTIVATION_CODES[str(activation)],
    )


def _rotary_attention(m: LoweredModule, node: fx.Node) -> Any:
    """The caches are written in place, so only the first of the three outputs is a value."""
    return [_KERNELS.rotary_attention(*(m.value(argument) for argument in node.args)), None, None]


def _linear(m: LoweredModule, node: fx.Node) -> Any:
    bias = node.args[2] if len(node.args) > 2 else None
    return _KERNELS.linear(m.value(node.args[0]), m.rows(node), m.value(bias))


def _embedding(m: LoweredModule, node: fx.Node) -> Any:
    width = int(shape_of(node)[-1])
    return _KERNELS.embedding(m.rows(node), m.value(node.args[1]), width)


_FLOAT = Dialect(
    {
        **COMMON,
        _IR.rms_norm.default: lambda m, node: _KERNELS.rms_norm(*map(m.value, node.args)),
        _IR.add_rms_norm.default: lambda m, node: _KERNELS.add_rms_norm(*map(m.value, node.args)),
        _IR.rotary_attention.default: _rotary_attention,
        _IR.scoring_ffn.default: _scoring_ffn,
        _IR.sparse_ffn.default: _sparse_ffn,
        _IR.scoring_experts.default: _scoring_experts,
        _IR.sparse_experts.default: _sparse_experts,
    },
    ffn_weights=_bundle,
    deferred=True,
)
_INTEGER = {**_FLOAT.translators, LINEAR: _linear, EMBEDDING: _embedding}


def native(dtype: Dtype) -> Dialect:
    """The dialect for a number format. Its programs need the library that is built from csrc."""
    if dtype == "fp32":
        return _FLOAT
    return Dialect(
        _INTEGER, partial(_integer_bundle, dtype), partial(_integer_rows, dtype), deferred=True
    )
