"""Priors by the text that they are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_tokenizer

from glass_export.calibrate.text import MIN_TOKENS
from glass_export.errors import EvaluationError, RecipeError
from glass_export.evaluate import priors as module
from glass_export.evaluate.methods import NullText
from glass_export.evaluate.priors import measure_prior
from glass_export.families import find_ffns
from glass_export.load import LoadedModel, load_model
from glass_export.prior import Prior
from glass_export.recipe import CalibrationRecipe
from glass_export.spec import STATISTICS, FfnSite, NullStart

RECIPE = CalibrationRecipe(tokens=600, sequence_length=32, batch=8, device="cpu")


@pytest.fixture(scope="module")
def loaded(recipe_of: Callable[..., Any], checkpoint: Callable[..., Path]) -> LoadedModel:
    return load_model(recipe_of(checkpoint("llama")).model)


@pytest.fixture(scope="module")
def sites(loaded: LoadedModel) -> list[FfnSite]:
    return find_ffns(loaded.model)


def test_the_kinds_of_text_and_their_usual_lengths(
    loaded: LoadedModel, sites: list[FfnSite]
) -> None:
    found: dict[NullStart, Prior] = {
        start: measure_prior(loaded, sites, RECIPE, NullText(start=start))
        for start in ("null", "template", "mixed")
    }
    assert {name: (prior.text, prior.tokens) for name, prior in found.items()} == {
        "null": ("null", 600), "template": ("template", 300), "mixed": ("mixed", 900),
    }  # fmt: skip
    for name in STATISTICS:
        null, template, mixed = (prior.statistics[name] for prior in found.values())
        assert (null != template).any()
        np.testing.assert_allclose(mixed, (null + template) / 2, rtol=1e-6)
    assert len({prior.model_sha256 for prior in found.values()}) == 1


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        (NullText(), 8192, [8192]),
        (NullText(start="template"), 8192, [4096]),
        (NullText(start="template"), 300, [MIN_TOKENS]),
        (NullText(start="mixed"), 1024, [1024, 512]),
        (NullText(512, "mixed"), 8192, [512, 512]),
    ],
)
def test_tokens_that_a_text_has(
    loaded: LoadedModel,
    sites: list[FfnSite],
    monkeypatch: pytest.MonkeyPatch,
    text: NullText,
    tokens: int,
    expected: list[int],
) -> None:
    calls: list[tuple[int, tuple[int, ...]]] = []

    def calibrate(_model: Any, _sites: Any, recipe: CalibrationRecipe, **rest: Any) -> Prior:
        calls.append((recipe.tokens, rest["prefix"]))
        ones = {name: np.ones((1, 2), np.float32) for name in STATISTICS}
        return Prior(statistics=ones, tokens=recipe.tokens, seed=0, temperature=1, model_sha256="")

    monkeypatch.setattr(module, "calibrate", calibrate)
    prior = measure_prior(loaded, sites, replace(RECIPE, tokens=tokens), text)
    assert [count for count, _ in calls] == expected and prior.tokens == sum(expected)
    lengths = {"null": [1], "template": [2], "mixed": [1, 2]}[text.start]
    assert [len(prefix) for _, prefix in calls] == lengths


def test_what_was_measured_before_comes_from_the_cache(
    loaded: LoadedModel, sites: list[FfnSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = NullText(300, "template")
    first = measure_prior(loaded, sites, RECIPE, text)
    monkeypatch.setattr("glass_export.calibrate.measure", None)
    again = measure_prior(loaded, sites, RECIPE, text)
    assert again.text == "template"
    np.testing.assert_array_equal(again.statistics["A"], first.statistics["A"])


@pytest.mark.parametrize("start", ["template", "mixed"])
def test_a_model_without_a_template(
    loaded: LoadedModel, sites: list[FfnSite], start: NullStart
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(RecipeError, match="the model has no chat template"):
        measure_prior(replace(loaded, tokenizer=tokenizer), sites, RECIPE, NullText(start=start))


def test_an_unknown_kind_of_text() -> None:
    with pytest.raises(EvaluationError, match="prior text: got 'novel'"):
        NullText(start="novel")  # type: ignore[arg-type]  # what is tested
