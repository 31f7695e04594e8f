"""A mixture of experts: the router, and the gated FFNs that it sends tokens to.

Every expert is a gated FFN. The statistics of its neurons are those of the tokens routed to it.

Legend: S tokens, D model width, E experts, k experts of a token, F width of an expert, R rows of
indices (one an expert), K kept neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from glass_export.ops.ffn import hidden_of, neurons_of


def routed(index: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The experts that have tokens, ascending: number, and of each token its place and choice.

    Shape: index [S,k] -> (expert, [n], [n]) with token t = first[i] and its choice second[i].
    """
    for expert in index.unique().tolist():
        tokens, choices = (index == expert).nonzero(as_tuple=True)
        yield expert, tokens, choices


def mixture(
    x: Tensor, index: Tensor, weight: Tensor, compute: Callable[[int, Tensor], Tensor]
) -> Tensor:
    """The sum of what ``compute(expert, tokens [n])`` [n,D] gives, times the routing weights.

    Shape: x [S,D], index and weight [S,k] -> [S,D].
    """
    out = torch.zeros_like(x)
    for expert, tokens, choices in routed(index):
        part = compute(expert, tokens) * weight[tokens, choices, None]
        out = out.index_add(0, tokens, part.to(x.dtype))
    return out


@torch.library.custom_op("glass_ir::route", mutates_args=())
def route(x: Tensor, weight: Tensor, count: int, normalise: bool) -> tuple[Tensor, Tensor]:
    """The experts of every token, the likeliest first.

    Args:
        x: [S,D].
        weight: Of the router [E,D].
        count: k.
        normalise: Whether the k weights of a token are scaled to a sum of 1.

    Returns:
        Probabilities [S,k], and the experts int64 [S,k].
    """
    probabilities = torch.softmax(x @ weight.T, -1)
    scores, index = torch.topk(probabilities, count, dim=-1)
    return (scores / scores.sum(-1, keepdim=True) if normalise else scores), index


@route.register_fake
def _(x: Tensor, weight: Tensor, count: int, normalise: bool) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], count)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


@torch.library.custom_op("glass_ir::scoring_experts", mutates_args=())
def scoring_experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    score_weights: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Experts with all their neurons, which also sums the neurons' local scores.

    Args:
        x: [S,D].
        index: Experts of each token, int64 [S,k].
        weight: Their weights [S,k].
        gate_up: [E,2F,D], gate first.
        down: [E,D,F].
        score_weights: m_t [S].
        activation: A key of ACTIVATIONS.

    Returns:
        The mixture [S,D], and of every expert sum_t m_t |u_t| and sum_t m_t u_t^2 over the tokens
        routed to it, [E,F] each; see ``glass_ir::scoring_ffn``.
    """
    sums = x.new_zeros(2, down.shape[0], down.shape[2])

    def compute(expert: int, tokens: Tensor) -> Tensor:
        gate, up = gate_up[expert].chunk(2)
        hidden = hidden_of(x[tokens], gate, up, None, activation)
        unit = hidden * torch.rsqrt(hidden.pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
        for total, score in zip(sums, (unit.abs(), unit.pow(2)), strict=True):
            total[expert] = score_weights[tokens] @ score
        return hidden @ down[expert].T

    out = mixture(x, index, weight, compute)
    return out, sums[0].clone(), sums[1].clone()


@scoring_experts.register_fake
def _(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    score_weights: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (down.shape[0], down.shape[2])
    return torch.empty_like(x), x.new_empty(shape), x.new_empty(shape)


@torch.library.custom_op("glass_ir::sparse_experts", mutates_args=())
def sparse_experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    indices: Tensor,
    first_row: int,
    activation: str,
) -> Tensor:
    """Experts with the neurons ``indices[first_row + expert]`` alone; -1 at a row's end is padding.

    Shape: x [S,D], index and weight [S,k], gate_up [E,2F,D], down [E,D,F], indices int32 [R,K]
    -> [S,D].
    """

    def compute(expert: int, tokens: Tensor) -> Tensor:
        kept = neurons_of(indices[first_row + expert])
        gate, up = (part[kept] for part in gate_up[expert].chunk(2))
        return hidden_of(x[tokens], gate, up, None, activation) @ down[expert][:, kept].T

    return mixture(x, index, weight, compute)


@sparse_experts.register_fake
def _(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    indices: Tensor,
    first_row: int,
    activation: str,
) -> Tensor:
    return torch.empty_like(x)
