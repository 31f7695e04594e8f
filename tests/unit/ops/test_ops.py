"""The torch definitions against independent ones, and fake kernels against real shapes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from glass_export import ops

HEADS, GROUPS, WIDTH, CONTEXT = 4, 2, 16, 32


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(CONTEXT)[:, None] * torch.rand(WIDTH // 2)[None]
    return angles.cos(), angles.sin()


def caches() -> tuple[torch.Tensor, torch.Tensor]:
    shape = (1, GROUPS, CONTEXT, WIDTH)
    return torch.zeros(shape), torch.zeros(shape)


def test_rms_norm_is_that_of_llama() -> None:
    norm = LlamaRMSNorm(24, eps=1e-5)
    norm.weight.data.normal_()
    x = torch.randn(2, 5, 24)
    assert torch.allclose(ops.rms_norm(x, norm.weight, 1e-5), norm(x), atol=1e-6)


def test_add_rms_norm_returns_norm_and_sum() -> None:
    x, skip, weight = torch.randn(1, 5, 24), torch.randn(1, 5, 24), torch.randn(24)
    normed, total = ops.add_rms_norm(x, skip, weight, 1e-5)
    assert torch.equal(total, x + skip)
    assert torch.allclose(normed, ops.rms_norm(x + skip, weight, 1e-5))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_mean_and_variance(bias: bool) -> None:
    x, weight, addend = torch.randn(2, 5, 24), torch.randn(24), torch.randn(24)
    centred = x - x.mean(-1, keepdim=True)
    wanted = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    got = ops.layer_norm(x, weight, addend if bias else None, 1e-3)
    assert torch.allclose(got, wanted + addend if bias else wanted, atol=1e-6)


def test_rope_is_that_of_transformers_at_any_position() -> None:
    cos, sin = tables()
    x = torch.randn(1, 6, HEADS, WIDTH)
    full = [torch.cat([t[3:9], t[3:9]], -1)[None] for t in (cos, sin)]
    wanted, _ = apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), *full)
    got = ops.rope(x, cos, sin, torch.tensor([3]))
    assert torch.allclose(got.transpose(1, 2), wanted, atol=1e-6)


def test_rope_leaves_channels_beyond_the_rotated_ones() -> None:
    cos, sin = (t[:, :4] for t in tables())
    x = torch.randn(1, 3, HEADS, WIDTH)
    got = ops.rope(x, cos, sin, torch.tensor([5]))
    assert torch.equal(got[..., 8:], x[..., 8:]) and not torch.equal(got[..., :8], x[..., :8])


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_attention_in_chunks_is_masked_softmax_attention(window: int, softcap: float) -> None:
    steps = 10
    q = torch.randn(1, steps, HEADS * WIDTH)
    k, v = (torch.randn(1, steps, GROUPS * WIDTH) for _ in range(2))
    keys, values = caches()
    parts = []
    for begin, end in ((0, 6), (6, 7), (7, steps)):
        out, keys, values = ops.attention(
            q[:, begin:end], k[:, begin:end], v[:, begin:end], keys, values,
            torch.tensor([begin]), HEADS, 0.25, window, softcap,
        )  # fmt: skip
        parts.append(out)

    heads = [x.unflatten(-1, (-1, WIDTH)).transpose(1, 2) for x in (q, k, v)]
    heads[1:] = [x.repeat_interleave(HEADS // GROUPS, 1) for x in heads[1:]]
    logits = 0.25 * heads[0] @ heads[1].transpose(2, 3)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    i, j = torch.arange(steps)[:, None], torch.arange(steps)[None]
    hidden = (j > i) | ((i - j >= window) if window else torch.zeros(1, dtype=torch.bool))
    wanted = logits.masked_fill(hidden, float("-inf")).softmax(-1) @ heads[2]
    assert torch.allclose(torch.cat(parts, 1), wanted.transpose(1, 2).flatten(2), atol=1e-5)


def test_rotary_attention_packed_and_apart_is_rope_then_attention() -> None:
    cos, sin = tables()
    position = torch.tensor([2])
    q = torch.randn(1, 4, HEADS * WIDTH)
    k, v = (torch.randn(1, 4, GROUPS * WIDTH) for _ in range(2))
    rotated = [
        ops.rope(x.unflatten(-1, (-1, WIDTH)), cos, sin, position).flatten(2) for x in (q, k)
    ]
    wanted = ops.attention(*rotated, v, *caches(), position, HEADS, 0.25, 0, 0.0)
    settings = (position, cos, sin, HEADS, 0.25, 0, 0.0)
    apart = ops.rotary_attention(q, k, v, *caches(), *settings)
    packed = ops.rotary_attention(torch.cat([q, k, v], -1), None, None, *caches(), *settings)
    for got in (apart, packed):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, wanted, strict=True))


def ffn_weights(d_model: int = 24, d_ff: int = 40) -> tuple[torch.Tensor, ...]:
    return torch.randn(d_ff, d_model), torch.randn(d_ff, d_model), torch.randn(d_model, d_ff)


def hidden_of(
    x: torch.Tensor, gate: torch.Tensor | None, up: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    if gate is not None:
        return functional.silu(x @ gate.T) * (x @ up.T)
    return functional.silu(x @ up.T if bias is None else x @ up.T + bias)


KINDS = pytest.mark.parametrize("kind", ["gated", "plain", "biased"])


def only(kind: str, gate: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Gate and bias of an FFN of this kind."""
    return gate if kind == "gated" else None, torch.randn(40) if kind == "biased" else None


@KINDS
def test_scoring_ffn_sums_the_scores_of_weighted_tokens(kind: str) -> None:
    gate, up, down = ffn_weights()
    gate, bias = only(kind, gate)
    x, weights = torch.randn(1, 6, 24), torch.tensor([1.0, 0, 1, 1, 0, 1])
    out, abs_sum, sq_sum = ops.scoring_ffn(x, gate, up, down, bias, weights, "silu")
    h = hidden_of(x, gate, up, bias)
    u = (h / h.norm(dim=-1, keepdim=True))[0, weights.bool()]
    assert torch.allclose(out, h @ down.T, atol=1e-4)
    assert torch.allclose(abs_sum, u.abs().sum(0), atol=1e-5)
    assert torch.allclose(sq_sum, u.square().sum(0), atol=1e-5)


def test_a_dead_token_scores_nothing() -> None:
    _, abs_sum, sq_sum = ops.scoring_ffn(
        torch.zeros(1, 1, 24), *ffn_weights(), None, torch.ones(1), "silu"
    )
    assert not abs_sum.any() and not sq_sum.any()


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu"])
def test_sparse_ffn_is_the_dense_one_with_other_neurons_zeroed(activation: str) -> None:
    gate, up, down = ffn_weights()
    x, kept = torch.randn(1, 2, 24), torch.tensor([[0, 1], [3, 17]], dtype=torch.int32)
    mask = torch.zeros(40)
    mask[kept[1].long()] = 1
    wanted, *_ = ops.scoring_ffn(x, gate, up, down * mask, None, torch.ones(2), activation)
    got = ops.sparse_ffn(x, gate, up, down, None, kept, 1, activation)
    assert torch.allclose(got, wanted, atol=1e-4)
    bias = torch.randn(40)
    wanted, *_ = ops.scoring_ffn(x, None, up, down * mask, bias, torch.ones(2), activation)
    got = ops.sparse_ffn(x, None, up, down, bias, kept, 1, activation)
    assert torch.allclose(got, wanted, atol=1e-4)


def test_padding_of_a_row_stands_for_no_neuron() -> None:
    gate, up, down = ffn_weights()
    x, rows = torch.randn(1, 2, 24), torch.tensor([[0, 1, 39], [3, -1, -1]], dtype=torch.int32)
    for layer, kept in enumerate(([0, 1, 39], [3])):
        wanted = ops.sparse_ffn(x, gate, up, down, None, torch.tensor([kept]).int(), 0, "silu")
        assert torch.equal(ops.sparse_ffn(x, gate, up, down, None, rows, layer, "silu"), wanted)


@KINDS
def test_all_neurons_are_the_dense_ffn(kind: str) -> None:
    gate, up, down = ffn_weights()
    gate, bias = only(kind, gate)
    x, every = torch.randn(1, 3, 24), torch.arange(40, dtype=torch.int32)[None]
    dense, *_ = ops.scoring_ffn(x, gate, up, down, bias, torch.ones(3), "silu")
    got = ops.sparse_ffn(x, gate, up, down, bias, every, 0, "silu")
    assert torch.allclose(got, dense, atol=1e-4)


def operator_samples() -> dict[str, tuple[object, tuple[object, ...]]]:
    x, weight = torch.randn(1, 3, 24), torch.randn(24)
    cos, sin = tables()
    position = torch.tensor([1])
    q, kv = torch.randn(1, 3, HEADS * WIDTH), torch.randn(1, 3, GROUPS * WIDTH)
    settings = (HEADS, 0.25, 0, 0.0)
    kept = torch.tensor([[1, -1]], dtype=torch.int32)
    tokens, experts = x[0], (torch.randn(4, 2 * 40, 24), torch.randn(4, 24, 40))
    mixture = (tokens, torch.tensor([[0, 3], [1, 0], [3, 2]]), torch.rand(3, 2), *experts)
    return {
        "layer_norm": (ops.layer_norm, (x, weight, weight, 1e-5)),
        "rms_norm": (ops.rms_norm, (x, weight, 1e-5)),
        "add_rms_norm": (ops.add_rms_norm, (x, x, weight, 1e-5)),
        "positions": (ops.positions, (torch.zeros(1, 3, dtype=torch.int64), position)),
        "rope": (ops.rope, (q.unflatten(-1, (HEADS, WIDTH)), cos, sin, position)),
        "attention": (ops.attention, (q, kv, kv, *caches(), position, *settings)),
        "rotary_attention": (
            ops.rotary_attention,
            (torch.cat([q, kv, kv], -1), None, None, *caches(), position, cos, sin, *settings),
        ),
        "scoring_ffn": (ops.scoring_ffn, (x, *ffn_weights(), None, torch.ones(3), "silu")),
        "sparse_ffn": (ops.sparse_ffn, (x, *ffn_weights(), None, kept, 0, "silu")),
        "route": (ops.route, (tokens, torch.randn(4, 24), 2, True)),
        "scoring_experts": (ops.scoring_experts, (*mixture, torch.ones(3), "silu")),
        "sparse_experts": (ops.sparse_experts, (*mixture, kept.expand(4, -1), 0, "silu")),
    }


@pytest.mark.parametrize("name", ops.__all__)
def test_schema_and_fake_kernel_agree_with_the_definition(name: str) -> None:
    operator, arguments = operator_samples()[name]
    torch.library.opcheck(operator, arguments)
