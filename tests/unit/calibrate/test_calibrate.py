from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from interruption import Stop, StopAfter
from tiny_models import D_FF, EXPERTS, LAYERS, tiny_model
from torch.nn import functional
from transformers import PreTrainedModel

from glass_export import log
from glass_export.calibrate import calibrate
from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.statistics import ORDER, measure
from glass_export.errors import CalibrationError, RecipeError, UnsupportedModelError
from glass_export.families import find_ffns
from glass_export.prior import Prior
from glass_export.recipe import CalibrationRecipe
from glass_export.spec import STATISTICS

RECIPE = CalibrationRecipe(tokens=300, sequence_length=32, batch=8, device="cpu")
LONGER = replace(RECIPE, tokens=1200, sequence_length=48)
FAMILIES = ["llama", "qwen2", "gemma3_text", "gemma2", "granite", "phi3", "opt", "phi"]
NO_CACHE = CalibrationCache(None, {})


def run(
    model: PreTrainedModel,
    recipe: CalibrationRecipe = RECIPE,
    cache: Path | None = None,
    stop_ids: tuple[int, ...] = (1,),
) -> Prior:
    return calibrate(
        model,
        find_ffns(model),
        recipe,
        prefix=(0,),
        stop_ids=stop_ids,
        model_sha256="0" * 64,
        cache=cache,
    )


def naive(
    model: PreTrainedModel, sequences: list[np.ndarray], prefix: tuple[int, ...] = (0,)
) -> np.ndarray:
    """Sums [4,L,F] by hooks and plain autograd in float64, over all logits at once."""
    first = len(prefix)
    model = copy.deepcopy(model).double()
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].retain_grad()
        seen.append(inputs[0])

    for site in find_ffns(model):
        model.get_submodule(site.linears[-1]).register_forward_pre_hook(keep)
    totals = np.zeros((4, LAYERS, D_FF))
    for sequence in sequences:
        seen.clear()
        tokens = torch.tensor([[*prefix, *sequence.tolist()]])
        embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
        logits = model(inputs_embeds=embedded, use_cache=False).logits
        wanted = tokens[0, first:]
        functional.cross_entropy(logits[0, first - 1 : -1], wanted, reduction="sum").backward()
        for index, h in enumerate(seen):
            hidden, taylor = (x.detach().reshape(-1, D_FF)[first:] for x in (h, h * h.grad))
            unit = hidden / hidden.norm(dim=-1, keepdim=True)
            forms = {"A": unit.abs(), "I": taylor.abs(), "G": unit**2, "F": taylor**2}
            totals[:, index] += np.stack([forms[name].sum(0).numpy() for name in ORDER])
    return totals


def naive_of_experts(model: PreTrainedModel, sequence: np.ndarray) -> np.ndarray:
    """Sums [4,L,F] of the experts of transformers, by the inputs of their down projections.

    ``functional.linear`` tells the expert by its weight; which tokens the rows of an expert are is
    what the module's own code says: those of the first choice, then those of the second.
    """
    model = copy.deepcopy(model).double()
    sites, linear = find_ffns(model), functional.linear
    seen: dict[int, torch.Tensor] = {}
    places: dict[int, torch.Tensor] = {}
    routed: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        for site in sites:
            down = model.get_submodule(site.path).down_proj
            offset = weight.data_ptr() - down.data_ptr()
            if 0 <= offset < down.nbytes:
                expert = offset // down[0].nbytes
                x.retain_grad()
                seen[site.row + expert] = x
                places[site.row + expert] = (routed[site.row] == expert).T.nonzero()[:, 1]
        return linear(x, weight, bias)

    for site in sites:

        def note(_: object, inputs: tuple[torch.Tensor, ...], row: int = site.row) -> None:
            routed[row] = inputs[1]

        model.get_submodule(site.path).register_forward_pre_hook(note)
    model.set_experts_implementation("eager")
    totals = np.zeros((4, sum(site.rows for site in sites), D_FF))
    tokens = torch.tensor([[0, *sequence.tolist()]])
    embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
    with patch.object(functional, "linear", keep):
        logits = model(inputs_embeds=embedded, use_cache=False).logits
    functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum").backward()
    for row, h in seen.items():
        counted = places[row] > 0
        hidden, taylor = (x.detach()[counted] for x in (h, h * h.grad))
        unit = hidden / hidden.norm(dim=-1, keepdim=True)
        forms = {"A": unit.abs(), "I": taylor.abs(), "G": unit**2, "F": taylor**2}
        totals[:, row] = np.stack([forms[name].sum(0).numpy() for name in ORDER])
    return totals


@pytest.fixture
def stop_after() -> Iterator[Callable[[str, int], None]]:
    yield lambda bar, tokens: log.configure(sink=StopAfter(bar, tokens))
    log.configure()


def assert_equal(a: Prior, b: Prior) -> None:
    for name in STATISTICS:
        np.testing.assert_array_equal(a.statistics[name], b.statistics[name])


@pytest.mark.parametrize("prefix", [(0,), (0, 7, 5, 9)], ids=len)
@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_are_those_of_plain_autograd(family: str, prefix: tuple[int, ...]) -> None:
    model = tiny_model(family)
    rng = np.random.default_rng(0)
    sequences = [rng.integers(2, 300, n).astype(np.int32) for n in (24, 3, 1, 17)]
    sums = measure(model, find_ffns(model), sequences, prefix, NO_CACHE)
    assert sums.tokens == 45
    expected = naive(model, sequences, prefix)
    scale = expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(sums.values / scale, expected / scale, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_statistics_of_experts_are_those_of_plain_autograd(family: str) -> None:
    model = tiny_model(family)
    sequence = np.random.default_rng(0).integers(2, 300, 24).astype(np.int32)
    sums = measure(model, find_ffns(model), [sequence], (0,), NO_CACHE)
    expected = naive_of_experts(model, sequence)
    scale = expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(sums.values / scale, expected / scale, rtol=2e-4, atol=1e-7)
    layers = sums.routed.reshape(-1, EXPERTS).sum(1)
    assert (layers == 2 * len(sequence)).all()  # two experts a token


def test_an_expert_that_no_text_used_has_equal_neurons() -> None:
    model = tiny_model("mixtral")
    for layer in model.model.layers:
        layer.mlp.gate.top_k = 1
        layer.mlp.gate.weight[1] = -layer.mlp.gate.weight[0]  # one of the two is above 0
        layer.mlp.gate.weight[2:] = 0
    unused = np.arange(LAYERS * EXPERTS) % EXPERTS >= 2
    for name, values in run(model).statistics.items():
        value = D_FF**-0.5 if name in "AI" else 1 / D_FF
        np.testing.assert_allclose(values[unused], value, rtol=1e-6)
        assert (values[~unused].max(1) > values[~unused].min(1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_prior_has_every_statistic_finite_and_of_unit_energy(family: str) -> None:
    prior = run(tiny_model(family))
    assert tuple(prior.statistics) == ORDER
    for values in prior.statistics.values():
        assert values.shape == (LAYERS, D_FF) and values.dtype == np.float32
        assert np.isfinite(values).all() and (values >= 0).all() and values.max() > 0
    np.testing.assert_allclose(prior.statistics["G"].sum(1), 1.0, rtol=1e-5)
    assert prior.tokens == RECIPE.tokens


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    model = tiny_model("llama")
    first = run(model)
    torch.manual_seed(123)  # the global generator plays no part
    assert_equal(first, run(model))
    other = run(model, replace(RECIPE, seed=1))
    assert (first.statistics["A"] != other.statistics["A"]).any()


def test_model_is_left_as_it_was() -> None:
    model = tiny_model("llama").train()
    model.model.layers[0].eval()
    model.lm_head.weight.requires_grad_(True)
    before = {n: (p.requires_grad, p.clone()) for n, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    run(model)
    assert [m.training for m in model.modules()] == modes
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == before[name][0] and parameter.grad is None
        assert torch.equal(parameter, before[name][1])
    assert not any("forward" in m.__dict__ for m in model.modules())
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("bar", ["writing", "measuring"])
def test_model_is_restored_after_an_error(bar: str, stop_after: Callable[[str, int], None]) -> None:
    model = tiny_model("llama").train()
    own = model.model.layers[1].mlp.forward
    model.model.layers[1].mlp.forward = own  # somebody else's wrapper stays
    stop_after(bar, 100)
    with pytest.raises(Stop):
        run(model)
    assert torch.get_float32_matmul_precision() == "highest"
    assert model.training and model.lm_head.training
    assert [i for i, la in enumerate(model.model.layers) if "forward" in la.mlp.__dict__] == [1]
    assert model.model.layers[1].mlp.forward is own


@pytest.mark.parametrize(("bar", "tokens"), [("writing", 700), ("measuring", 800)])
def test_a_killed_run_resumes_to_the_same_bits(
    bar: str,
    tokens: int,
    tmp_path: Path,
    stop_after: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glass_export.calibrate.statistics.SAVE_EVERY", 256)
    model = tiny_model("qwen2")
    expected = run(model, LONGER)
    stop_after(bar, tokens)
    with pytest.raises(Stop):
        run(model, LONGER, tmp_path)
    (folder,) = tmp_path.iterdir()
    name = "text" if bar == "writing" else "sums-0-of-1"
    assert (folder / f"{name}.safetensors").is_file() and not (
        folder / "prior.safetensors"
    ).exists()
    log.configure()
    assert_equal(run(model, LONGER, tmp_path), expected)
    assert not list(folder.glob("*.partial")) and not list(folder.glob("sums*"))


def test_resuming_measures_only_what_is_left(
    tmp_path: Path, stop_after: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glass_export.calibrate.statistics.SAVE_EVERY", 256)
    model = tiny_model("llama")
    stop_after("measuring", 1100)
    with pytest.raises(Stop):
        run(model, LONGER, tmp_path)
    calls: list[int] = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    log.configure()
    run(model, LONGER, tmp_path)
    sequences = LONGER.tokens // LONGER.sequence_length
    assert 2 < len(calls) < 2 + sequences // 2  # two checks, then what was not saved


def test_a_finished_prior_is_loaded_without_running_the_model(tmp_path: Path) -> None:
    model = tiny_model("llama")
    first = run(model, cache=tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("the model ran")

    model.register_forward_pre_hook(fail)
    assert_equal(run(model, cache=tmp_path), first)
    with pytest.raises(AssertionError, match="the model ran"):
        run(model, replace(RECIPE, temperature=0.9), tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_cache_files_are_ignored_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("llama")
    first = run(model, cache=tmp_path)
    for path in tmp_path.glob("*/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 64
        path.write_bytes({"truncated": content[:-9], "flipped": content, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "glass_export"):
        assert_equal(run(model, cache=tmp_path), first)
    assert len([r for r in caplog.records if "ignored" in r.message]) == 2  # prior and text
    caplog.clear()
    run(model, cache=tmp_path)
    assert not caplog.records


def test_an_unwritable_cache_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "glass_export"):
        run(tiny_model("llama"), cache=tmp_path / "file")
    assert any("cannot write" in r.message for r in caplog.records)


def test_nan_weights() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[3] = float("nan")
    with pytest.raises(CalibrationError, match=r"NaN.*float32"):
        run(model)


def test_nan_that_only_the_gradient_has() -> None:
    model = tiny_model("llama")
    sequences = [np.arange(2, 20, dtype=np.int32)]
    gradient = torch.full((1, 1, 64), float("inf"))
    model.model.norm.register_forward_hook(
        lambda _m, _i, out: out + 0 * gradient.nan_to_num() if not out.requires_grad else out
    )
    model.model.layers[0].input_layernorm.register_full_backward_hook(
        lambda _m, grad_in, _out: (grad_in[0] + gradient,)
    )
    model.model.layers[2].post_attention_layernorm.register_full_backward_hook(
        lambda _m, grad_in, _out: (grad_in[0] + gradient,)
    )
    with pytest.raises(CalibrationError, match=r"statistic I of layer \d, neuron \d+.*NaN"):
        measure(model, find_ffns(model), sequences, (0,), NO_CACHE)


def test_dead_text() -> None:
    model = tiny_model("llama")
    bias = torch.zeros(320)
    bias[7] = 200.0
    model.lm_head.register_forward_hook(lambda _m, _i, out: out + bias)
    with pytest.raises(CalibrationError, match=r"dead: .*token 7 makes up \d+%"):
        run(model)


def test_text_of_few_different_tokens_is_dead() -> None:
    model = tiny_model("llama")
    allowed = torch.full((320,), float("-inf"))
    allowed[20:30] = 0.0
    model.lm_head.register_forward_hook(lambda _m, _i, out: 0.01 * out + allowed)
    with pytest.raises(CalibrationError, match="dead: 10 different tokens"):
        run(model)


def test_a_model_that_stops_at_once() -> None:
    with pytest.raises(CalibrationError, match=r"too few tokens.* after 1\.0 tokens"):
        run(tiny_model("llama"), stop_ids=tuple(range(320)))


@pytest.mark.parametrize("tokens", [1, 255])
def test_too_few_tokens_asked_for(tokens: int) -> None:
    with pytest.raises(CalibrationError, match=rf"got {tokens}, expected at least 256"):
        run(tiny_model("llama"), replace(RECIPE, tokens=tokens))


@pytest.mark.parametrize("device", ["gpu", "cuda:63", "meta"])
def test_unknown_device(device: str) -> None:
    with pytest.raises(RecipeError, match=f"calibration.device: got '{device}'"):
        run(tiny_model("llama"), replace(RECIPE, device=device))


def test_first_token_outside_the_vocabulary() -> None:
    model = tiny_model("llama")
    with pytest.raises(CalibrationError, match=r"got ids \[320\], .* 0 to 319"):
        calibrate(model, find_ffns(model), RECIPE, prefix=(320,), model_sha256="", cache=None)


def test_sites_that_do_not_describe_the_model() -> None:
    model = tiny_model("llama")
    sites = [replace(site, activation="relu") for site in find_ffns(model)]
    with pytest.raises(UnsupportedModelError, match="another activation"):
        calibrate(model, sites, RECIPE, prefix=(0,), model_sha256="", cache=None)
    with pytest.raises(UnsupportedModelError, match="one width"):
        calibrate(
            model,
            [replace(sites[0], d_ff=5), *sites[1:]],
            RECIPE,
            prefix=(0,),
            model_sha256="",
            cache=None,
        )
