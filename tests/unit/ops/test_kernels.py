"""The native operators' torch definitions against the semantic operators."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from glass_export import bundles, native, ops
from glass_export.errors import LoweringError
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.ops.kernels import ABI_VERSION, ACTIVATION_CODES

KERNELS = torch.ops.glass
HEADS, GROUPS, WIDTH, CONTEXT, D_MODEL, D_FF = 4, 2, 16, 12, 24, 40
OUTPUTS = {
    "sparse_ffn": ("out",),
    "dense_ffn": ("out", "abs_sum", "sq_sum"),
    "plain_sparse_ffn": ("out",),
    "plain_dense_ffn": ("out", "abs_sum", "sq_sum"),
    "rms_norm": ("out",),
    "add_rms_norm": ("out", "sum"),
    "rotary_attention": ("out",),
    "linear": ("out",),
    "embedding": ("out",),
}
FORMS = ("int8", "int4")
WIDE = 64  # integer rows are groups of 32


def close(got: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(got, wanted, atol=1e-5)


def ffn_weights() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(D_FF, D_MODEL), torch.randn(D_FF, D_MODEL), torch.randn(D_MODEL, D_FF) / 8


def bundle(gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return torch.stack([gate, up, down.T], 1).contiguous()


def caches() -> tuple[Tensor, Tensor]:
    return torch.randn(1, GROUPS, CONTEXT, WIDTH), torch.randn(1, GROUPS, CONTEXT, WIDTH)


def tables(rotated: int = WIDTH) -> tuple[Tensor, Tensor]:
    angles = torch.arange(CONTEXT)[:, None] * torch.rand(rotated // 2)[None]
    return angles.cos(), angles.sin()


def qkv(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    query = torch.randn(1, steps, HEADS * WIDTH)
    return query, *(torch.randn(1, steps, GROUPS * WIDTH) for _ in range(2))


def samples() -> dict[str, tuple[object, ...]]:
    x, weight, ffn = torch.randn(1, 3, D_MODEL), torch.randn(D_MODEL), bundle(*ffn_weights())
    plain = ffn[:, 1:].contiguous()
    kept = torch.tensor([[0, 1, 5], [3, 17, -1]], dtype=torch.int32)
    attention = (*qkv(3), *caches(), torch.tensor([2]), *tables(), HEADS, 0.25, 0, 0.0)
    return {
        "sparse_ffn": (x, ffn, kept, 1, 0),
        "dense_ffn": (x, ffn, torch.ones(3), 0),
        "plain_sparse_ffn": (x, plain, torch.randn(D_FF), kept, 1, 0),
        "plain_dense_ffn": (x, plain, torch.randn(D_FF), torch.ones(3), 0),
        "rms_norm": (x, weight, 1e-5),
        "add_rms_norm": (x, torch.randn_like(x), weight, 1e-5),
        "rotary_attention": attention,
        "linear": (torch.randn(1, 3, WIDE), integer_rows("int4")[0], torch.randn(11)),
        "embedding": (integer_rows("int8")[0], torch.tensor([[3, 0, 10]]), WIDE),
    }


def integer_ffn(form: str) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Bundles uint8 [F,bytes] and the gate, up [F,D] and down [D,F] that they stand for."""
    floats = (torch.randn(D_FF, 3, WIDE) / 4).numpy()
    stored = bundles.quantise(floats, form)
    gate, up, down = torch.from_numpy(bundles.dequantise(stored, WIDE, form)).unbind(1)
    return torch.from_numpy(stored), (gate, up, down.T)


def integer_rows(form: str) -> tuple[Tensor, Tensor]:
    """Rows uint8 [N,bytes] and the numbers [N,D] that they stand for."""
    stored = bundles.quantise_rows(torch.randn(11, WIDE).numpy(), form)
    return torch.from_numpy(stored), torch.from_numpy(bundles.dequantise_rows(stored, WIDE, form))


def rounded(x: Tensor) -> Tensor:
    return torch.from_numpy(bundles.quantise_tokens(x[0].numpy()))[None]


def copies(arguments: tuple[object, ...]) -> list[object]:
    return [a.clone() if isinstance(a, Tensor) else a for a in arguments]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_ffn_is_the_semantic_one(activation: str) -> None:
    weights, kept = ffn_weights(), torch.tensor([[0, 1, 5], [3, 17, -1]], dtype=torch.int32)
    x, code = torch.randn(1, 2, D_MODEL), ACTIVATION_CODES[activation]
    for layer in (0, 1):
        wanted = ops.sparse_ffn(x, *weights, None, kept, layer, activation)
        assert close(KERNELS.sparse_ffn(x, bundle(*weights), kept, layer, code), wanted)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_ffn_is_the_semantic_one(activation: str) -> None:
    weights, score_weights = ffn_weights(), torch.tensor([1.0, 0.0, 0.5])
    x, code = torch.randn(1, 3, D_MODEL), ACTIVATION_CODES[activation]
    wanted = ops.scoring_ffn(x, *weights, None, score_weights, activation)
    got = KERNELS.dense_ffn(x, bundle(*weights), score_weights, code)
    assert all(map(close, got, wanted))


@pytest.mark.parametrize("form", FORMS)
def test_integer_ffns_are_the_semantic_ones_of_rounded_tokens(form: str) -> None:
    stored, weights = integer_ffn(form)
    x, kept = torch.randn(1, 3, WIDE), torch.tensor([[0, 1, 5], [3, 17, -1]], dtype=torch.int32)
    wanted = ops.sparse_ffn(rounded(x), *weights, None, kept, 1, "silu")
    assert close(KERNELS.sparse_ffn(x, stored, kept, 1, 0), wanted)
    scores = ops.scoring_ffn(rounded(x), *weights, None, torch.ones(3), "silu")
    assert all(map(close, KERNELS.dense_ffn(x, stored, torch.ones(3), 0), scores))


@pytest.mark.parametrize("form", ["float32", *FORMS])
@pytest.mark.parametrize("biased", [False, True])
def test_plain_ffns_are_the_semantic_ones(form: str, biased: bool) -> None:
    stored = (torch.randn(D_FF, 2, WIDE) / 4).contiguous()
    x, kept = torch.randn(1, 3, WIDE), torch.tensor([[0, 1, 5], [3, 17, -1]], dtype=torch.int32)
    floats, seen, ones = stored, x, torch.ones(3)
    if form != "float32":
        stored = torch.from_numpy(bundles.quantise(stored.numpy(), form))
        floats = torch.from_numpy(bundles.dequantise(stored.numpy(), WIDE, form, gated=False))
        seen = rounded(x)
    up, down = floats.unbind(1)
    weights, bias = (None, up, down.T), torch.randn(D_FF) if biased else None
    wanted = ops.sparse_ffn(seen, *weights, bias, kept, 1, "relu")
    code = ACTIVATION_CODES["relu"]
    assert close(KERNELS.plain_sparse_ffn(x, stored, bias, kept, 1, code), wanted)
    scores = ops.scoring_ffn(seen, *weights, bias, ones, "relu")
    assert all(map(close, KERNELS.plain_dense_ffn(x, stored, bias, ones, code), scores))


@pytest.mark.parametrize("form", FORMS)
def test_integer_linears_and_embeddings_are_those_of_their_numbers(form: str) -> None:
    (stored, numbers), x = integer_rows(form), torch.randn(1, 3, WIDE)
    bias = torch.randn(11)
    assert close(KERNELS.linear(x, stored, bias), rounded(x) @ numbers.T + bias)
    assert close(KERNELS.linear(x, stored, None), rounded(x) @ numbers.T)
    ids = torch.tensor([[3, 0], [10, 3]])
    assert torch.equal(KERNELS.embedding(stored, ids, WIDE), numbers[ids])


def test_integer_weights_of_another_width_are_refused() -> None:
    stored, _ = integer_ffn("int4")
    message = "got 128 bytes a row, expected 320 .int8. or 192 .int4."
    with pytest.raises(LoweringError, match=f"weights of width 96: {message}"):
        KERNELS.dense_ffn(torch.randn(1, 2, 96), stored, torch.ones(2), 0)


def test_norms_are_the_semantic_ones() -> None:
    x, skip, weight = torch.randn(1, 3, D_MODEL), torch.randn(1, 3, D_MODEL), torch.randn(D_MODEL)
    assert close(KERNELS.rms_norm(x, weight, 1e-5), ops.rms_norm(x, weight, 1e-5))
    wanted = ops.add_rms_norm(x, skip, weight, 1e-5)
    assert all(map(close, KERNELS.add_rms_norm(x, skip, weight, 1e-5), wanted))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("rotated", "window", "softcap"),
    [(WIDTH, 0, 0.0), (8, 0, 0.0), (WIDTH, 3, 0.0), (WIDTH, 0, 2.0), (8, 3, 2.0)],
)
def test_rotary_attention_is_the_semantic_one_and_writes_the_caches(
    rotated: int, window: int, softcap: float, packed: bool
) -> None:
    rows, (keys, values) = qkv(4), caches()
    if packed:
        rows = (torch.cat(rows, -1), None, None)
    settings = (torch.tensor([5]), *tables(rotated), HEADS, 0.25, window, softcap)
    out, wanted_keys, wanted_values = ops.rotary_attention(*rows, keys, values, *settings)
    assert not close(keys, wanted_keys)
    assert close(KERNELS.rotary_attention(*rows, keys, values, *settings), out)
    assert close(keys, wanted_keys) and close(values, wanted_values)


@pytest.mark.parametrize("name", OUTPUTS)
def test_schema_and_fake_kernel_agree_with_the_definition(name: str) -> None:
    torch.library.opcheck(getattr(KERNELS, name).default, samples()[name])


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_out_form_writes_and_returns_its_buffers(name: str) -> None:
    arguments = samples()[name]
    wanted = getattr(KERNELS, name)(*copies(arguments))
    buffers = {output: torch.empty(0) for output in OUTPUTS[name]}
    got = getattr(KERNELS, name).out(*copies(arguments), **buffers)
    single = len(buffers) == 1
    for result, buffer, value in zip(
        (got,) if single else got, buffers.values(), (wanted,) if single else wanted, strict=True
    ):
        assert result is buffer and torch.equal(buffer, value)


def header(name: str) -> str:
    return (native.SOURCES / "include" / "glass" / name).read_text()


def test_the_version_is_that_of_the_library() -> None:
    (version,) = re.findall(r"kAbiVersion = (\d+);", header("abi.h"))
    assert int(version) == ABI_VERSION


def test_activation_codes_are_those_of_the_library() -> None:
    (body,) = re.findall(r"enum class Activation : int32_t \{(.*?)\}", header("ffn.h"), re.S)
    codes = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): int(code)
        for name, code in re.findall(r"k(\w+) = (\d+)", body)
    }
    assert codes == ACTIVATION_CODES
    assert ACTIVATION_CODES.keys() == ACTIVATIONS.keys()
