"""Rotary position embedding from precomputed tables.

Legend: B batch, S sequence, H heads, R rotated width, C context length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor, position: Tensor) -> Tensor:
    """The torch definition of :func:`rope`, also used by the fused attention."""
    steps = torch.arange(x.shape[1], device=x.device) + position
    cos_S1R, sin_S1R = cos[steps].unsqueeze(1), sin[steps].unsqueeze(1)
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat(
        [first * cos_S1R - second * sin_S1R, second * cos_S1R + first * sin_S1R, rest], dim=-1
    )


@torch.library.custom_op("glass_ir::rope", mutates_args=())
def rope(x: Tensor, cos: Tensor, sin: Tensor, position: Tensor) -> Tensor:
    """Rotate the first R channels of each head by the angle of its position.

    Shape: x [B,S,H,head_dim], cos and sin [C,R/2], position [1] (of the first token) -> like x.
    Source: Su et al. 2021, "RoFormer"; halves layout of Hugging Face's ``rotate_half``.
    """
    return rotate(x, cos, sin, position)


@rope.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, position: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
