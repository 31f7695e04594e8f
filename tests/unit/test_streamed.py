"""Streamed models: the same numbers and the same files as with all weights in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LAYERS, tiny_model
from torch import nn

from glass_export.artifact import Artifact
from glass_export.calibrate import calibrate
from glass_export.errors import RecipeError, SourceError, UnsupportedModelError
from glass_export.families import find_ffns, known_families
from glass_export.load import LoadedModel, load_model
from glass_export.nn import streamed
from glass_export.pipeline import export
from glass_export.prior import Prior
from glass_export.recipe import CalibrationRecipe, Recipe, TargetRecipe, resolve
from glass_export.targets import load_target

Checkpoint = Callable[..., Path]
IDS = torch.tensor([[0, 5, 9, 200, 31, 7]])
INTEGER_FORMS = [("onnx", True), ("onnx", False), ("executorch", True)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every matrix of a tiny model is read in several pieces, the last one shorter."""
    monkeypatch.setattr(streamed, "BLOCK", 64 * 13)


def load(path: Path, **options: bool) -> LoadedModel:
    return load_model(resolve(str(path)).model, **options)


@pytest.mark.parametrize("family", known_families())
def test_a_streamed_model_computes_the_same_and_holds_no_matrix(
    checkpoint: Checkpoint, family: str
) -> None:
    whole = load(checkpoint(family)).model
    model = load(checkpoint(family), streamed=True).model
    with torch.no_grad():
        wanted, got = whole(IDS).logits, model(IDS).logits
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6 * float(wanted.abs().max()))
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            assert layer.weight.isnan().all() and layer.weight.untyped_storage().nbytes() == 4
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) == model.config.tie_word_embeddings


def test_products_and_their_gradient_are_those_of_a_linear() -> None:
    model = tiny_model("qwen2")
    layer = model.model.layers[0].self_attn.q_proj
    weight, x = layer.weight.detach().clone(), torch.randn(2, 5, 64)

    class Stored:
        shape = tuple(weight.shape)

        def rows(self, start: int, stop: int) -> torch.Tensor:
            return weight[start:stop].clone()

    gradient = torch.randn(2, 5, 64)
    results = []
    for _ in range(2):
        inputs = x.clone().requires_grad_()
        layer(inputs).backward(gradient)
        results.append((layer(x).detach(), inputs.grad, streamed.back_through(layer, gradient)))
        streamed.stream(layer, lambda _: Stored())
    assert isinstance(layer, streamed.StreamedLinear)
    for wanted, got in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("family", known_families())
def test_a_streamed_calibration_measures_the_same(checkpoint: Checkpoint, family: str) -> None:
    def prior(**options: bool) -> Prior:
        loaded = load(checkpoint(family), **options)
        recipe = CalibrationRecipe(tokens=256, sequence_length=16, batch=16)
        sites = find_ffns(loaded.model)
        return calibrate(
            loaded.model, sites, recipe, prefix=(0,), model_sha256="0" * 64, cache=None
        )

    whole, got = prior(), prior(streamed=True)
    for statistic, wanted in whole.statistics.items():
        np.testing.assert_allclose(got.statistics[statistic], wanted, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("form", INTEGER_FORMS)
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_the_streamed_reference_is_rounded_as_the_one_in_memory(
    checkpoint: Checkpoint, form: tuple[str, bool], dtype: str
) -> None:
    name, custom_ops = form
    options = TargetRecipe(name=name, dtype=dtype, custom_ops=custom_ops)
    results, target = [], load_target(name)
    for kind in (False, True):
        model = load(checkpoint("qwen2"), streamed=kind).model
        with torch.no_grad():
            exact = model(IDS).logits
            with target.numerics(model, find_ffns(model), options):
                results.append(model(IDS).logits)
            torch.testing.assert_close(model(IDS).logits, exact, rtol=0, atol=0)
    size = float(exact.abs().max())
    # Rounded activations can fall to the other side of a step: far below what rounding changes.
    assert float((results[1] - results[0]).abs().max()) < 2e-3 * size
    assert float((results[0] - exact).abs().max()) > 5e-3 * size


@pytest.mark.parametrize(
    "form", [*INTEGER_FORMS[:2], pytest.param(INTEGER_FORMS[2], marks=pytest.mark.slow)]
)
def test_a_streamed_export_writes_the_same_weights(
    checkpoint: Checkpoint, recipe_of: Callable[..., Recipe], tmp_path: Path, form: tuple[str, bool]
) -> None:
    recipe = recipe_of(
        checkpoint("llama"), f"target.name={form[0]}", "target.dtype=int4",
        f"target.custom_ops={str(form[1]).lower()}", "verify.tokens=4",
    )  # fmt: skip
    files = {"onnx": ("weights.bin", "prefill.onnx", "decode.onnx"), "executorch": ("model.pte",)}
    for streamed_too in (False, True):
        manifest = export(recipe, tmp_path / str(streamed_too), streamed=streamed_too)
        assert manifest.verification is not None and manifest.verification["passed"]
    for name in files[form[0]]:
        whole, got = ((tmp_path / str(kind) / name).read_bytes() for kind in (False, True))
        assert whole == got
    assert Artifact.open(tmp_path / "True", check="full").manifest.model.dims.layers == LAYERS


def test_damage_is_found_where_it_is_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for file in checkpoint("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][40, 3] = float("inf")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    model = load(tmp_path, streamed=True).model
    with pytest.raises(SourceError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinity"):
        model(IDS)


def test_what_cannot_be_streamed_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = load(checkpoint("llama"), streamed=True).model
    recipe = CalibrationRecipe(tokens=256, device="cuda")
    with pytest.raises(RecipeError, match="streamed to the processor alone; use cpu"):
        calibrate(model, find_ffns(model), recipe, prefix=(0,), model_sha256="", cache=None)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModelError, match="GGUF file cannot be streamed"):
        load(tmp_path / "model.gguf", streamed=True)
