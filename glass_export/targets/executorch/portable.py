"""The dialect of stock operators: any build of ExecuTorch with XNNPACK runs the program.

Slower: the chosen neurons' rows are copied for every token, and attention reads the whole cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from glass_export.graph import Weight
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.targets.base import SiteWeights
from glass_export.targets.executorch.common import COMMON
from glass_export.targets.executorch.module import Dialect, LoweredModule

_IR, _ATEN = torch.ops.glass_ir, torch.ops.aten


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _add_rms_norm(x: Tensor, skip: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    total = x + skip
    return _rms_norm(total, weight, eps), total


def _rows(ffn: SiteWeights) -> dict[str, Weight]:
    """Matrices [F,D], and a bias [F,1]: a neuron is a row of each."""
    down = ffn.down.derived("down", ffn.down.shape[::-1], lambda tensor: tensor.T)
    rows = dict(zip(("gate", "up") if ffn.gated else ("up",), ffn.inputs, strict=True))
    if ffn.bias is not None:
        rows["bias"] = ffn.bias.derived("bias", (*ffn.bias.shape, 1), lambda t: t[:, None])
    return rows | {"down": down}


def _hidden(x: Tensor, rows: dict[str, Tensor], activation: object) -> Tensor:
    """H [S,K] of x [1,S,D]. The weights come first, because only activations are cheap to turn."""
    turned, activate = x[0].t(), ACTIVATIONS[str(activation)]
    if "gate" in rows:
        gate, up = torch.mm(rows["gate"], turned), torch.mm(rows["up"], turned)
        return (activate(gate) * up).t()
    up = torch.mm(rows["up"], turned)
    return activate(up + rows["bias"] if "bias" in rows else up).t()


def _scoring_ffn(m: LoweredModule, node: fx.Node) -> Any:
    x, *_, score_weights, activation = node.args
    rows = m.ffn(node)
    hidden = _hidden(m.value(x), rows, activation)
    norm = torch.rsqrt(hidden.pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
    unit, weights = hidden * norm, m.value(score_weights)[None]
    sums = torch.mm(weights, unit.abs())[0], torch.mm(weights, unit.pow(2))[0]
    return torch.mm(hidden, rows["down"])[None], *sums


def _sparse_ffn(m: LoweredModule, node: fx.Node) -> Any:
    """Padding of the row, -1, stands for neuron 0, whose activation is multiplied by zero there.

    By a product and not by ``where``, so that XNNPACK takes the whole of it.
    """
    x, *_, indices, layer, activation = node.args
    row = m.value(indices)[layer]
    kept = row.clamp(min=0)
    rows = {name: tensor.index_select(0, kept) for name, tensor in m.ffn(node).items()}
    is_neuron = (row >= 0).to(torch.float32)
    hidden = _hidden(m.value(x), rows, activation) * is_neuron
    return torch.mm(hidden, rows["down"])[None]


def _positions(m: LoweredModule, position: Tensor) -> Tensor:
    """Cache positions of the call's tokens [S]."""
    if "positions" not in m.memo:
        (ids,) = (v for node, v in m.values.items() if node.name == "input_ids")
        m.memo["positions"] = torch.arange(ids.shape[1]) + position
    positions: Tensor = m.memo["positions"]
    return positions


def _mask(m: LoweredModule, positions: Tensor, cache_len: int, window: int) -> Tensor:
    """What is added to the logits [S,C]: 0 where a token sees a cache position, else -inf."""
    key = ("mask", window)
    if key not in m.memo:
        distance = positions[:, None] - torch.arange(cache_len)[None]
        visible = distance >= 0
        if window:
            visible = visible & (distance < window)
        m.memo[key] = torch.where(visible, 0.0, float("-inf"))
    mask: Tensor = m.memo[key]
    return mask


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [S,heads,E] by cos and sin [S,1,R/2]."""
    half = cos.shape[-1]
    if half == 0:
        return x
    first, second = x[..., :half], x[..., half : 2 * half]
    parts = [first * cos - second * sin, second * cos + first * sin]
    if 2 * half < x.shape[-1]:
        parts.append(x[..., 2 * half :])
    return torch.cat(parts, -1)


def _rotary_attention(m: LoweredModule, node: fx.Node) -> Any:
    """Logits are computed as keys times queries, so that the cache is read as it lies."""
    query, key, value, keys, values, position, cos, sin, *settings = map(m.value, node.args)
    heads, scale, window, softcap = settings
    _, groups, length, width = keys.shape
    if key is None:
        query, key, value = query.split([heads * width, groups * width, groups * width], -1)
    positions = _positions(m, position)
    cos, sin = (table.index_select(0, positions)[:, None] for table in (cos, sin))
    query = _rotate(query.view(-1, heads, width), cos, sin) * scale
    key = _rotate(key.view(-1, groups, width), cos, sin)
    for cache, new in ((keys, key), (values, value.view(-1, groups, width))):
        _ATEN.index_put_(cache, [None, None, positions], new.transpose(0, 1)[None])
    grouped = query.view(-1, groups, heads // groups, width).permute(1, 3, 2, 0)
    logits = torch.bmm(keys[0], grouped.reshape(groups, width, -1)).transpose(1, 2)
    logits = logits.clone(memory_format=torch.contiguous_format)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.view(heads, -1, length) + _mask(m, positions, length, window)
    weights = torch.softmax(logits, -1).view(groups, -1, length)
    out = torch.bmm(weights, values[0]).view(heads, -1, width)
    return [out.transpose(0, 1).reshape(1, -1, heads * width), None, None]


PORTABLE = Dialect(
    {
        **COMMON,
        _IR.rms_norm.default: lambda m, node: _rms_norm(*map(m.value, node.args)),
        _IR.add_rms_norm.default: lambda m, node: _add_rms_norm(*map(m.value, node.args)),
        _IR.rotary_attention.default: _rotary_attention,
        _IR.scoring_ffn.default: _scoring_ffn,
        _IR.sparse_ffn.default: _sparse_ffn,
    },
    ffn_weights=_rows,
)
"""Needs no library of ours."""
