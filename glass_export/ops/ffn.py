"""The gated feed-forward network in its two roles: dense with scores, and sparse.

Legend: B batch, S tokens, D model width, F FFN width, K kept neurons, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


def neurons_of(row: Tensor) -> Tensor:
    """The indices int64 of a row of neurons without its padding, -1."""
    return row[row >= 0].long()


@torch.library.custom_op("glass_ir::scoring_ffn", mutates_args=())
def scoring_ffn(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, score_weights: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Dense gated FFN that also sums the local scores of its neurons.

    With h = act(x gate^T) * (x up^T) and u_t = h_t / ||h_t||_2 (0 where h_t is 0).

    Args:
        x: [1,S,D].
        gate: [F,D].
        up: [F,D].
        down: [D,F].
        score_weights: m_t [S].
        activation: A key of ACTIVATIONS.

    Returns:
        h down^T [1,S,D], sum_t m_t |u_t| [F] and sum_t m_t u_t^2 [F].

    Source: GLASS (arXiv 2508.14302), local score; GRIFFIN is the root of the third output.
    """
    hidden = ACTIVATIONS[activation](x @ gate.T) * (x @ up.T)
    unit = hidden[0] * torch.rsqrt(hidden[0].pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
    return hidden @ down.T, score_weights @ unit.abs(), score_weights @ unit.pow(2)


@scoring_ffn.register_fake
def _(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, score_weights: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(gate.shape[0]), x.new_empty(gate.shape[0])


@torch.library.custom_op("glass_ir::sparse_ffn", mutates_args=())
def sparse_ffn(
    x: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    indices: Tensor,
    layer: int,
    activation: str,
) -> Tensor:
    """Gated FFN of the neurons ``indices[layer]`` alone; -1 at the end of the row is padding.

    Shape: x [B,S,D], gate and up [F,D], down [D,F], indices int32 [L,K] -> [B,S,D].
    Source: GRIFFIN (Dong et al. 2024), GLASS (arXiv 2508.14302): neuron-wise FFN pruning.
    """
    kept = neurons_of(indices[layer])
    hidden = ACTIVATIONS[activation](x @ gate[kept].T) * (x @ up[kept].T)
    return hidden @ down[:, kept].T


@sparse_ffn.register_fake
def _(
    x: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    indices: Tensor,
    layer: int,
    activation: str,
) -> Tensor:
    return torch.empty_like(x)
