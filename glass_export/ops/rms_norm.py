"""Root-mean-square normalisation, alone and fused with the residual addition before it."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("glass_ir::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight over the last dimension.

    Shape: x [..., D], weight [D] -> [..., D].
    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
    """
    variance = x.pow(2).mean(-1, keepdim=True)
    return x * torch.rsqrt(variance + eps) * weight


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("glass_ir::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, skip: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """rms_norm(x + skip), and the sum itself for the residual stream.

    Shape: x and skip [..., D], weight [D] -> ([..., D], [..., D]).
    """
    total = x + skip
    variance = total.pow(2).mean(-1, keepdim=True)
    return total * torch.rsqrt(variance + eps) * weight, total


@add_rms_norm.register_fake
def _(x: Tensor, skip: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(x, memory_format=contiguous),
        torch.empty_like(x, memory_format=contiguous),
    )
