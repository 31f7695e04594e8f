"""The global prior of SmolLM2: sound text, statistics equal to plain autograd, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import Stop, StopAfter
from torch.nn import functional

from glass_export import log, package
from glass_export.calibrate import calibrate
from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.statistics import ORDER, measure
from glass_export.families import find_ffns
from glass_export.load import LoadedModel, load_model
from glass_export.recipe import CalibrationRecipe, resolve
from glass_export.spec import STATISTICS

pytestmark = pytest.mark.slow
RECIPE = CalibrationRecipe(tokens=1536, sequence_length=64, batch=16, device="cpu")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(resolve("smollm2").model)


def test_a_run_killed_twice_gives_the_same_prior(loaded: LoadedModel, tmp_path: Path) -> None:
    model, sites = loaded.model, find_ffns(loaded.model)

    def run(cache: Path) -> dict[str, np.ndarray]:
        prior = calibrate(
            model,
            sites,
            RECIPE,
            **package.null_prompt(loaded),
            model_sha256=loaded.source.sha256,
            cache=cache,
        )
        return {name: prior.statistics[name] for name in STATISTICS}

    expected = run(tmp_path / "whole")
    for bar, tokens in (("writing", 1200), ("measuring", 1400)):
        log.configure(sink=StopAfter(bar, tokens))
        try:
            with pytest.raises(Stop):
                run(tmp_path / "killed")
        finally:
            log.configure()
    resumed = run(tmp_path / "killed")
    for name, values in expected.items():
        np.testing.assert_array_equal(resumed[name], values)
        assert values.shape == (30, 1536) and np.isfinite(values).all()
        assert not (values == 0).all(axis=1).any()
    (folder,) = (tmp_path / "whole").iterdir()
    text = CalibrationCache(tmp_path / "whole", {})
    text._folder = folder
    tokens = np.concatenate([s for part in text.load_text() for s in part])
    assert len(tokens) == RECIPE.tokens and len(np.unique(tokens)) > 300
    words = loaded.tokenizer.decode(tokens).split()
    assert sum(word.isascii() and word.isalpha() for word in words) > len(words) / 2


def test_statistics_are_those_of_plain_autograd(loaded: LoadedModel) -> None:
    model, sites = loaded.model, find_ffns(loaded.model)
    ids = loaded.tokenizer.encode("The lighthouse keeper counted the ships each evening.")
    sequences = [np.array(ids, np.int32)]
    sums = measure(model, sites, sequences, (1,), CalibrationCache(None, {}))

    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].retain_grad()
        seen.append(inputs[0])

    downs = [model.get_submodule(f"{site.path}.{site.down}") for site in sites]
    hooks = [down.register_forward_pre_hook(keep) for down in downs]
    tokens = torch.tensor([[1, *ids]])
    embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits
    functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    for index, h in enumerate(seen):
        hidden, taylor = h[0, 1:].detach().double(), (h * h.grad)[0, 1:].detach().double()
        unit = hidden / hidden.norm(dim=-1, keepdim=True)
        forms = {"A": unit.abs(), "I": taylor.abs(), "G": unit**2, "F": taylor**2}
        for row, name in enumerate(ORDER):
            expected = forms[name].sum(0).numpy()
            np.testing.assert_allclose(
                sums.values[row, index], expected, rtol=5e-3, atol=1e-4 * expected.max()
            )


def test_another_seed_gives_a_like_prior(loaded: LoadedModel) -> None:
    model, sites = loaded.model, find_ffns(loaded.model)
    priors = [
        calibrate(
            model,
            sites,
            replace(RECIPE, seed=seed),
            **package.null_prompt(loaded),
            model_sha256="",
            cache=None,
        )
        for seed in (1, 2)
    ]
    for name in ("A", "G"):
        a, b = (p.statistics[name] for p in priors)
        correlation = [
            np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1]
            for x, y in zip(a, b, strict=True)
        ]
        assert min(correlation) > 0.5 and np.median(correlation) > 0.7, name
