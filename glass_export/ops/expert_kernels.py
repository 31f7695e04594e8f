"""The native library's operators for a mixture of experts, as torch sees them; see ``kernels``.

Legend: S tokens, D model width, E experts, k experts of a token, F width of an expert, R rows of
indices, K kept neurons.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glass_export.ops.experts import mixture
from glass_export.ops.ffn import neurons_of
from glass_export.ops.kernels import define, floats_of, gated_hidden, like


@define(
    "Tensor x, Tensor index, Tensor weight, Tensor bundle, Tensor indices, int experts, "
    "int first_row, int activation",
    ("out",),
    lambda x, *_: like(x),
)
def sparse_experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    bundle: Tensor,
    indices: Tensor,
    experts: int,
    first_row: int,
    activation: int,
) -> Tensor:
    """Experts with the neurons of their rows of ``indices`` alone, read in place.

    Shape: x [S,D], index int64 and weight [S,k], bundle [E F,3,D] or uint8 [E F,bytes], indices
    int32 [R,K] as in ``sparse_ffn`` -> [S,D].
    """
    bundles = bundle.unflatten(0, (experts, -1))

    def compute(expert: int, tokens: Tensor) -> Tensor:
        chosen = bundles[expert][neurons_of(indices[first_row + expert])]
        rows, kept = floats_of(x[tokens], chosen, gated=True)
        return gated_hidden(rows, kept, activation) @ kept[:, 2]

    return mixture(x, index, weight, compute)


def _dense_shape(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    bundle: Tensor,
    score_weights: Tensor,
    experts: int,
    activation: int,
) -> tuple[Tensor, ...]:
    sums = (experts, bundle.shape[0] // experts)
    return like(x), x.new_empty(sums), x.new_empty(sums)


@define(
    "Tensor x, Tensor index, Tensor weight, Tensor bundle, Tensor score_weights, int experts, "
    "int activation",
    ("out", "abs_sum", "sq_sum"),
    _dense_shape,
)
def dense_experts(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    bundle: Tensor,
    score_weights: Tensor,
    experts: int,
    activation: int,
) -> tuple[Any, ...]:
    """Experts with all neurons and the sums of their local scores.

    See ``glass_ir::scoring_experts``. Shape: x [S,D], index int64 and weight [S,k], bundle
    [E F,3,D] or uint8 [E F,bytes], score_weights [S] -> [S,D], [E,F], [E,F].
    """
    bundles = bundle.unflatten(0, (experts, -1))
    sums = x.new_zeros(2, experts, bundles.shape[1])

    def compute(expert: int, tokens: Tensor) -> Tensor:
        rows, whole = floats_of(x[tokens], bundles[expert], gated=True)
        hidden = gated_hidden(rows, whole, activation)
        unit = hidden * torch.rsqrt(hidden.pow(2).sum(-1, keepdim=True).clamp_min(1e-30))
        for total, score in zip(sums, (unit.abs(), unit.pow(2)), strict=True):
            total[expert] = score_weights[tokens] @ score
        return hidden @ whole[:, 2]

    return mixture(x, index, weight, compute), sums[0].clone(), sums[1].clone()
