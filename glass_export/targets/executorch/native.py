"""The dialect that uses the project's own operators: few nodes a layer, FFN weights in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

import glass_export.ops.kernels  # noqa: F401  (registers torch.ops.glass)
from glass_export.graph import Weight
from glass_export.ops.kernels import ACTIVATION_CODES
from glass_export.targets.executorch.common import COMMON
from glass_export.targets.executorch.module import Dialect, LoweredModule

_IR, _KERNELS = torch.ops.glass_ir, torch.ops.glass


def _bundle(gate: Weight, up: Weight, down: Weight) -> dict[str, Weight]:
    """The FFN's weights neuron by neuron [F,3,D]: gate, up and down row."""
    width, depth = gate.shape

    def load() -> Tensor:
        return torch.stack([gate.load(), up.load(), down.load().T], dim=1)

    return {"bundle": Weight("bundle", (width, 3, depth), gate.dtype, load)}


def _scoring_ffn(m: LoweredModule, node: fx.Node) -> Any:
    x, *_, score_weights, activation = node.args
    code = ACTIVATION_CODES[str(activation)]
    return _KERNELS.dense_ffn(m.value(x), m.ffn(node)["bundle"], m.value(score_weights), code)


def _sparse_ffn(m: LoweredModule, node: fx.Node) -> Any:
    x, *_, indices, layer, activation = node.args
    code = ACTIVATION_CODES[str(activation)]
    return _KERNELS.sparse_ffn(m.value(x), m.ffn(node)["bundle"], m.value(indices), layer, code)


def _rotary_attention(m: LoweredModule, node: fx.Node) -> Any:
    """The caches are written in place, so only the first of the three outputs is a value."""
    return [_KERNELS.rotary_attention(*(m.value(argument) for argument in node.args)), None, None]


NATIVE = Dialect(
    {
        **COMMON,
        _IR.rms_norm.default: lambda m, node: _KERNELS.rms_norm(*map(m.value, node.args)),
        _IR.add_rms_norm.default: lambda m, node: _KERNELS.add_rms_norm(*map(m.value, node.args)),
        _IR.rotary_attention.default: _rotary_attention,
        _IR.scoring_ffn.default: _scoring_ffn,
        _IR.sparse_ffn.default: _sparse_ffn,
    },
    ffn_weights=_bundle,
)
"""Needs the library that is built from csrc."""
