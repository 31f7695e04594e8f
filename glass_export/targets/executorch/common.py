"""Translators that all dialects share: plain ATen operators, and linears as modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from glass_export.targets.executorch.module import EMBEDDING, LINEAR, LoweredModule, Translator

_ATEN = torch.ops.aten


def _same(m: LoweredModule, node: fx.Node) -> Any:
    """The operator itself."""
    assert callable(node.target)
    return node.target(*(m.value(argument) for argument in node.args))


def _linear(m: LoweredModule, node: fx.Node) -> Any:
    return m.layer(node)(m.value(node.args[0]))


def _embedding(m: LoweredModule, node: fx.Node) -> Any:
    return m.layer(node)(m.value(node.args[1]))


def _layer_norm(m: LoweredModule, node: fx.Node) -> Any:
    x, weight, bias, eps = map(m.value, node.args)
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, eps)


def _positions(m: LoweredModule, node: fx.Node) -> Any:
    ids, position = (m.value(argument) for argument in node.args)
    return (torch.arange(ids.shape[1]) + position)[None]


def _route(m: LoweredModule, node: fx.Node) -> Any:
    x, weight, count, normalise = map(m.value, node.args)
    probabilities = torch.softmax(torch.mm(x, weight.t()), -1)
    scores, index = torch.topk(probabilities, count, dim=-1)
    return (scores / scores.sum(-1, keepdim=True) if normalise else scores), index


COMMON: Mapping[Any, Translator] = {
    LINEAR: _linear,
    EMBEDDING: _embedding,
    torch.ops.glass_ir.positions.default: _positions,
    torch.ops.glass_ir.layer_norm.default: _layer_norm,
    torch.ops.glass_ir.route.default: _route,
    **dict.fromkeys(
        (
            _ATEN.add.Tensor,
            _ATEN.mul.Tensor,
            _ATEN.div.Tensor,
            _ATEN.tanh.default,
            _ATEN.sigmoid.default,
            _ATEN.silu.default,
            _ATEN.cat.default,
            _ATEN.reshape.default,
            _ATEN.split_with_sizes.default,
            _ATEN.index.Tensor,
            _ATEN.stack.default,
            operator.getitem,
        ),
        _same,
    ),
}
