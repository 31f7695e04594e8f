"""Operators of mixtures of experts: definitions against one token at a time."""

from __future__ import annotations

import pytest
import torch

from glass_export import bundles, ops
from glass_export.ops.expert_kernels import dense_experts, sparse_experts

E, F, D, S, PER_TOKEN = 4, 48, 64, 9, 2


@pytest.fixture
def layer() -> dict[str, torch.Tensor]:
    """Weights, tokens and a routing in which expert 2 has none."""
    random = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    used = torch.tensor([0, 1, 3])
    index = torch.stack([used[torch.randperm(3, generator=random)[:2]] for _ in range(S)])
    return {
        "x": values(S, D), "index": index, "weight": values(S, PER_TOKEN).softmax(-1),
        "gate_up": values(E, 2 * F, D) / 8, "down": values(E, D, F) / 8,
    }  # fmt: skip


def hidden(layer: dict[str, torch.Tensor], token: int, expert: int) -> torch.Tensor:
    gate, up = (layer["gate_up"][expert] @ layer["x"][token]).chunk(2)
    return torch.nn.functional.silu(gate) * up


def bundle_of(layer: dict[str, torch.Tensor]) -> torch.Tensor:
    gate, up = layer["gate_up"].chunk(2, 1)
    return torch.stack([gate, up, layer["down"].transpose(1, 2)], 2).flatten(0, 1)


def test_scores_are_sums_over_the_tokens_of_each_expert(layer: dict[str, torch.Tensor]) -> None:
    mask = (torch.arange(S) % 3 > 0).float()
    y, abs_sum, sq_sum = ops.scoring_experts(**layer, score_weights=mask, activation="silu")
    wanted, sums = torch.zeros(S, D), torch.zeros(2, E, F)
    for token in range(S):
        for choice, expert in enumerate(layer["index"][token].tolist()):
            h = hidden(layer, token, expert)
            wanted[token] += layer["weight"][token, choice] * (layer["down"][expert] @ h)
            unit = h / h.norm()
            sums[0, expert] += mask[token] * unit.abs()
            sums[1, expert] += mask[token] * unit.square()
    torch.testing.assert_close(y, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack([abs_sum, sq_sum]), sums, atol=1e-5, rtol=1e-4)
    assert not abs_sum[2].any()
    tokens = [float(mask[(layer["index"] == e).any(1)].sum()) for e in range(E)]
    torch.testing.assert_close(sq_sum.sum(1), torch.tensor(tokens))
    kernel = dense_experts(
        layer["x"], layer["index"], layer["weight"], bundle_of(layer), mask, E, 0
    )
    for got, expected in zip(kernel, (y, abs_sum, sq_sum), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", [None, "int8", "int4"])
def test_sparse_experts_have_the_neurons_of_their_own_rows(
    layer: dict[str, torch.Tensor], form: bundles.BundleFormat | None
) -> None:
    first = 3
    rows = torch.stack([torch.arange(e % 3, F, 3) for e in range(first + E)]).int()
    rows[:, -1] = -1
    bundle = bundle_of(layer)
    if form is not None:  # the oracle computes with what integers stand for
        stored = bundles.quantise(bundle.numpy(), form)
        meant = torch.from_numpy(bundles.dequantise(stored, D, form)).unflatten(0, (E, F))
        layer["gate_up"] = torch.cat([meant[:, :, 0], meant[:, :, 1]], 1)
        layer["down"] = meant[:, :, 2].transpose(1, 2).contiguous()
        bundle = torch.from_numpy(stored)
        kernel_x = layer["x"]
        layer["x"] = torch.from_numpy(bundles.quantise_tokens(kernel_x.numpy()))
    else:
        kernel_x = layer["x"]
    y = ops.sparse_experts(**layer, indices=rows, first_row=first, activation="silu")
    wanted = torch.zeros(S, D)
    for token in range(S):
        for choice, expert in enumerate(layer["index"][token].tolist()):
            kept = rows[first + expert][:-1].long()
            h, down = hidden(layer, token, expert)[kept], layer["down"][expert][:, kept]
            wanted[token] += layer["weight"][token, choice] * (down @ h)
    torch.testing.assert_close(y, wanted, atol=1e-5, rtol=1e-4)
    kernel = sparse_experts(kernel_x, layer["index"], layer["weight"], bundle, rows, E, first, 0)
    torch.testing.assert_close(kernel, wanted, atol=1e-5, rtol=1e-4)
