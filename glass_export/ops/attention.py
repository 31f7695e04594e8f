"""Causal grouped-query attention over a fixed-size key/value cache.

Legend: B batch, S new tokens, H query heads, G key/value heads, E head width, C cache length.
Functional form: the caches come in and go out; targets update them in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glass_export.ops.rope import rotate


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of 4-D query, key and value [B,S,heads,E]; see :func:`attention`."""
    batch, steps, heads, width = query.shape
    rows = torch.arange(steps, device=query.device) + position
    keys = key_cache.index_copy(2, rows, key.transpose(1, 2))
    values = value_cache.index_copy(2, rows, value.transpose(1, 2))
    repeat = heads // keys.shape[1]
    logits = query.transpose(1, 2) @ keys.repeat_interleave(repeat, 1).transpose(2, 3) * scale
    if softcap > 0:
        logits = softcap * torch.tanh(logits / softcap)
    distance = rows[:, None] - torch.arange(keys.shape[2], device=query.device)[None]
    visible = (distance >= 0) & (distance < window) if window > 0 else distance >= 0
    weights = logits.masked_fill(~visible, float("-inf")).softmax(-1)
    out = weights @ values.repeat_interleave(repeat, 1)
    return out.transpose(1, 2).reshape(batch, steps, heads * width), keys, values


def unpack(
    qkv: Tensor, key: Tensor | None, value: Tensor | None, heads: int, key_cache: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Query [B,S,H,E], key and value [B,S,G,E] from three flat tensors, or from a packed one."""
    groups, width = key_cache.shape[1], key_cache.shape[3]
    if key is None or value is None:
        qkv, key, value = qkv.split([heads * width, groups * width, groups * width], dim=-1)
    return (
        qkv.unflatten(-1, (heads, width)),
        key.unflatten(-1, (groups, width)),
        value.unflatten(-1, (groups, width)),
    )


@torch.library.custom_op("glass_ir::attention", mutates_args=())
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write key and value at ``position`` and attend causally to all positions up to each token.

    Args:
        query: [B,S,H*E], already rotated.
        key: [B,S,G*E], already rotated.
        value: [B,S,G*E].
        key_cache: [B,G,C,E].
        value_cache: [B,G,C,E].
        position: [1], cache position of the first token.
        heads: H.
        scale: Factor of the logits.
        window: Sliding window in tokens, the token itself included; 0 for none.
        softcap: Bound of the logits as in Gemma 2; 0 for none.

    Returns:
        Output [B,S,H*E] and both caches with the new rows.
    """
    return attend(
        *unpack(query, key, value, heads, key_cache),
        key_cache,
        value_cache,
        position,
        scale,
        window,
        softcap,
    )


@attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    return out, torch.empty_like(key_cache), torch.empty_like(value_cache)


@torch.library.custom_op("glass_ir::rotary_attention", mutates_args=())
def rotary_attention(
    qkv: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`attention` that rotates query and key itself and may take them packed.

    Args:
        qkv: The query [B,S,H*E]; or query, key and value side by side [B,S,(H+2G)*E].
        key: [B,S,G*E], or None when packed.
        value: [B,S,G*E], or None when packed.
        key_cache: [B,G,C,E].
        value_cache: [B,G,C,E].
        position: [1].
        cos: Cosine table [C,R/2]; with R = 0 nothing is rotated.
        sin: Sine table [C,R/2].
        heads: H.
        scale: Factor of the logits.
        window: Sliding window in tokens; 0 for none.
        softcap: Bound of the logits; 0 for none.

    Returns:
        Output [B,S,H*E] and both caches with the new rows.
    """
    query, key, value = unpack(qkv, key, value, heads, key_cache)
    return attend(
        rotate(query, cos, sin, position),
        rotate(key, cos, sin, position),
        value,
        key_cache,
        value_cache,
        position,
        scale,
        window,
        softcap,
    )


@rotary_attention.register_fake
def _(
    qkv: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    key_cache: Tensor,
    value_cache: Tensor,
    position: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    scale: float,
    window: int,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    out = qkv.new_empty((*qkv.shape[:-1], heads * key_cache.shape[3]))
    return out, torch.empty_like(key_cache), torch.empty_like(value_cache)
