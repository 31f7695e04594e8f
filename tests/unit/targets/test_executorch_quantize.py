"""Quantised linears and embeddings: the programs, and the rounding they are checked against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from tiny_models import CONTEXT, D_FF, LAYERS, every, tiny_model
from torch import nn
from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
    IntxUnpackedToInt8Tensor,
)

from glass_export.artifact import Artifact
from glass_export.errors import LoweringError
from glass_export.families import find_ffns
from glass_export.manifest import TargetInfo
from glass_export.targets.executorch import quantize
from glass_export.verify.eager import SMOOTH_TOLERANCE

Exported = Callable[..., Path]
IDS = torch.tensor([[0, 5, 9, 200, 31, 7]])


def constant_bytes(folder: Path) -> int:
    file = deserialize_pte_binary((folder / "model.pte").read_bytes())
    data = sum(len(buffer.storage) for buffer in file.program.constant_buffer)
    return data + sum(map(len, file.named_data.buffers if file.named_data else []))


def verified(folder: Path) -> TargetInfo:
    manifest = Artifact.open(folder).manifest
    report = manifest.verification
    assert report is not None and report["passed"]
    assert report["tolerance"]["logits"] > SMOOTH_TOLERANCE
    return manifest.target


@pytest.mark.parametrize("family", every("llama", "gemma3_text"))
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_an_integer_program_is_verified_and_has_integers_alone(
    exported: Exported, family: str, dtype: str
) -> None:
    folder = exported(family, "executorch", f"target.dtype={dtype}")
    target = verified(folder)
    assert (target.dtype, target.ffn_dtype, target.custom_ops) == (dtype, dtype, True)
    model = tiny_model(family)
    matrices = {p.data_ptr(): p for p in model.parameters() if p.ndim == 2}.values()
    bits = {"int8": 8.5, "int4": 4.5}[dtype]
    padding = LAYERS * D_FF * 64
    tables, priors, norms = 2 * 4 * CONTEXT * 16, 4 * 4 * LAYERS * D_FF, 4 * 64 * 8 * LAYERS
    most = sum(p.numel() for p in matrices) * bits / 8 + padding + 2 * tables + priors + norms
    assert constant_bytes(folder) < most + 4096


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "share"), [("int8", 0.27), ("int4", 0.16)])
def test_a_quantised_portable_program_is_verified_and_smaller(
    exported: Exported, dtype: str, share: float
) -> None:
    portable = "target.custom_ops=false"
    folder = exported("llama", "executorch", f"target.dtype={dtype}", portable, layers=2)
    target = verified(folder)
    assert (target.dtype, target.ffn_dtype, target.custom_ops) == (dtype, "fp32", False)
    data = constant_bytes(folder)
    model = tiny_model("llama", layers=2)
    total = 4 * sum(parameter.numel() for parameter in model.parameters())
    rounded = 4 * sum(
        layer.weight.numel()
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, nn.Embedding)) and ".mlp." not in name
    )
    others = 4 * (CONTEXT * 16 + 4 * 2 * D_FF)  # rotary tables and priors
    assert data < total - rounded + share * rounded + others


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_inside_the_block_all_but_the_ffns_are_rounded_and_outside_nothing(
    family: str, dtype: str
) -> None:
    model = tiny_model(family)
    modules = {name: id(module) for name, module in model.named_modules()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = model(IDS).logits
    with quantize.quantized(model, find_ffns(model), dtype):
        inside = {name: id(module) for name, module in model.named_modules()}
        rounded = model(IDS).logits
    changed = {name for name, module in modules.items() if inside.get(name) != module}
    attention = {
        f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(3) for part in "qkvo"
    }
    assert changed == {"model.embed_tokens", "lm_head", *attention}
    assert 1e-3 < (rounded - exact).std() / exact.std() < 0.5
    assert {name: id(module) for name, module in model.named_modules()} == modules
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())
    assert torch.equal(model(IDS).logits, exact)


def test_the_model_is_restored_after_an_error() -> None:
    model = tiny_model("llama", layers=1)
    exact = model(IDS).logits
    with pytest.raises(KeyboardInterrupt), quantize.quantized(model, find_ffns(model), "int8"):
        raise KeyboardInterrupt
    assert torch.equal(model(IDS).logits, exact)


def test_fp32_changes_nothing() -> None:
    model = tiny_model("llama", layers=1)
    exact = model(IDS).logits
    with quantize.quantized(model, find_ffns(model), "fp32"):
        assert torch.equal(model(IDS).logits, exact)
    layers = nn.Sequential(nn.Linear(48, 8))
    weight = layers[0].weight
    quantize.quantize(layers, "fp32")
    assert layers[0].weight is weight


@pytest.mark.parametrize(("dtype", "levels"), [("int8", 255), ("int4", 16)])
def test_rounded_rows_take_few_values(dtype: str, levels: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(512, 3, bias=False))
    wanted = layers[0].weight.detach().clone()
    rounded = quantize._rounded(layers[0], dtype)[1].weight
    group = 512 if dtype == "int8" else quantize.GROUP
    for part in rounded.unflatten(1, (-1, group)).flatten(0, 1):
        steps = part / part.abs().max()
        assert len(steps.unique()) <= levels
    step = wanted.abs().max() / (levels // 2 - 1)
    assert 0 < (rounded - wanted).abs().max() <= 0.51 * step + 1e-3 * wanted.abs().max()


def test_linears_and_embeddings_are_quantised_in_place() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Embedding(10, 64), nn.Linear(64, 8))
    quantize._apply(layers, "int4")
    for layer in layers:
        assert isinstance(layer.weight, IntxUnpackedToInt8Tensor)
        assert layer.weight.block_size == (1, quantize.GROUP)


@pytest.mark.parametrize("layer", [nn.Linear(48, 64), nn.Embedding(10, 48)])
def test_rows_that_are_no_whole_number_of_groups_are_refused(layer: nn.Module) -> None:
    message = "0: rows of 48 weights, but int4 needs a multiple of 32; use --dtype int8 or fp32"
    with pytest.raises(LoweringError, match=message):
        quantize.quantize(nn.Sequential(layer), "int4")
    quantize.quantize(nn.Sequential(layer), "int8")
