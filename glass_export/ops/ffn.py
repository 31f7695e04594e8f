"""The feed-forward network in its two roles: dense with scores, and sparse.

It is gated, h = act(x gate^T) * (x up^T), or plain where there is no gate, h = act(x up^T + bias).
The bias of the second matrix belongs to no neuron; models add it afterwards.

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


def hidden_of(
    x: Tensor, gate: Tensor | None, up: Tensor, bias: Tensor | None, activation: str
) -> Tensor:
    """The activation h. Shape: x [..,D], gate and up [F,D], bias [F] -> [..,F]."""
    if gate is not None:
        return ACTIVATIONS[activation](x @ gate.T) * (x @ up.T)
    return ACTIVATIONS[activation](functional.linear(x, up, bias))


@torch.library.custom_op("glass_ir::scoring_ffn", mutates_args=())
def scoring_ffn(
    x: Tensor,
    gate: Tensor | None,
    up: Tensor,
    down: Tensor,
    bias: Tensor | None,
    score_weights: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Dense FFN that also sums the local scores of its neurons.

    With h as the module says and u_t = h_t / ||h_t||_2 (0 where h_t is 0).

    Args:
        x: [1,S,D].
        gate: [F,D], or None where the FFN is plain.
        up: [F,D].
        down: [D,F].
        bias: [F], or None; of a plain FFN alone.
        score_weights: m_t [S].
        activation: A key of ACTIVATIONS.

    Returns:
        h down^T [1,S,D], sum_t m_t |u_t| [F] and sum_t m_t u_t^2 [F].

    Source: GLASS (arXiv 2508.14302), local score; GRIFFIN is the root of the third output.
    """
    hidden = hidden_of(x, gate, up, bias, activation)
    unit = hidden[0] * torch.rsqrt(hidden[0].pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
    return hidden @ down.T, score_weights @ unit.abs(), score_weights @ unit.pow(2)


@scoring_ffn.register_fake
def _(
    x: Tensor,
    gate: Tensor | None,
    up: Tensor,
    down: Tensor,
    bias: Tensor | None,
    score_weights: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(up.shape[0]), x.new_empty(up.shape[0])


@torch.library.custom_op("glass_ir::sparse_ffn", mutates_args=())
def sparse_ffn(
    x: Tensor,
    gate: Tensor | None,
    up: Tensor,
    down: Tensor,
    bias: Tensor | None,
    indices: Tensor,
    layer: int,
    activation: str,
) -> Tensor:
    """FFN of the neurons ``indices[layer]`` alone; -1 at the end of the row is padding.

    Shape: x [B,S,D], gate (or None) and up [F,D], down [D,F], bias [F] (or None), indices int32
    [L,K] -> [B,S,D].
    Source: GRIFFIN (Dong et al. 2024), GLASS (arXiv 2508.14302): neuron-wise FFN pruning.
    """
    kept = neurons_of(indices[layer])
    gate, bias = (None if part is None else part[kept] for part in (gate, bias))
    return hidden_of(x, gate, up[kept], bias, activation) @ down[:, kept].T


@sparse_ffn.register_fake
def _(
    x: Tensor,
    gate: Tensor | None,
    up: Tensor,
    down: Tensor,
    bias: Tensor | None,
    indices: Tensor,
    layer: int,
    activation: str,
) -> Tensor:
    return torch.empty_like(x)
