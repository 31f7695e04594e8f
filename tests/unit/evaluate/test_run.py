"""Evaluation of a model before any export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import D_FF, LAYERS, tiny_model

from glass_export import package
from glass_export.errors import EvaluationError, RecipeError
from glass_export.evaluate import run
from glass_export.evaluate.run import evaluate_model, magnitudes
from glass_export.families import find_ffns
from glass_export.load import LoadedModel, load_model
from glass_export.recipe import Recipe, SelectionRecipe
from glass_export.spec import FfnSite, NullStart

Make = Callable[..., Any]


@pytest.fixture
def recipe(recipe_of: Make, checkpoint: Make) -> Recipe:
    made: Recipe = recipe_of(checkpoint("llama"))
    return made


def test_evaluation_of_a_model(recipe: Recipe, settings_of: Make) -> None:
    methods = ("dense", "griffin", "a-glass", "oracle", "magnitude", "random", "auto")
    auto = SelectionRecipe(fusion="global", prior="G")
    settings = settings_of(*methods, density=(0.25, 1.0), refresh=(0, 4))
    threads = torch.get_num_threads()
    asked: list[int] = []

    def find(_: LoadedModel, sites: list[FfnSite]) -> tuple[SelectionRecipe, NullStart]:
        asked.append(len(sites))
        return auto, "template"

    outcome = evaluate_model(recipe, settings, find_auto=find, threads=1)
    assert asked == [LAYERS]
    assert torch.get_num_threads() == threads
    by_label = {row.label: row for row in outcome.methods}
    assert len(by_label) == len(outcome.methods) == 1 + 6 * 4
    for label, row in by_label.items():
        if "0.25" not in label:
            assert row.kl.value == 0.0 and row.ppl == outcome.dense_ppl, label
        else:
            assert row.kl.value > 0 and row.decode_tps is None, label
    sparse, refreshed = by_label["griffin 0.25"], by_label["griffin 0.25 refresh 4"]
    assert refreshed.kl.value < sparse.kl.value and sparse.overlap == refreshed.overlap
    assert refreshed.ratio is not None
    assert refreshed.ratio.value == pytest.approx(refreshed.kl.value / sparse.kl.value)
    assert set(by_label["oracle 0.25"].overlap) == {1.0}
    assert "auto 0.25 refresh 4 prior template" in by_label
    assert outcome.subject == recipe.model.name and outcome.versions["torch"]


def test_a_shorter_prompt_and_other_priors_change_the_choice(
    recipe: Recipe, settings_of: Make
) -> None:
    settings = settings_of(
        "a-glass", density=(0.25,), prompt_tokens=(1, 100), prior_tokens=(256, 512),
        prior_text=("null", "template"),
    )  # fmt: skip
    outcome = evaluate_model(recipe, settings, threads=1)
    kls = {row.label: row.kl.value for row in outcome.methods}
    assert len(kls) == 8 and len(set(kls.values())) == 8
    assert "a-glass 0.25 prompt 1 prior template 256" in kls
    plain = evaluate_model(recipe, settings_of("a-glass", density=(0.25,)), threads=1)
    assert plain.methods[0].kl.value == kls["a-glass 0.25 prompt 100 prior 512"]


def test_the_rule_is_looked_for_only_when_it_is_compared(recipe: Recipe, settings_of: Make) -> None:
    def find(*_: object) -> tuple[SelectionRecipe, NullStart]:
        raise AssertionError("a rule was looked for")

    outcome = evaluate_model(recipe, settings_of("griffin"), find_auto=find, threads=1)
    assert [row.method for row in outcome.methods] == ["griffin"]


def test_every_measures_fewer_steps_of_the_same_answers(recipe: Recipe, settings_of: Make) -> None:
    first, fourth = (
        evaluate_model(recipe, settings_of("griffin", every=every), threads=1) for every in (1, 4)
    )
    assert first.texts == fourth.texts and 3 < first.tokens / fourth.tokens < 5
    assert (first.settings["every"], fourth.settings["every"]) == (1, 4)


def test_bad_settings_are_refused_before_a_model_is_loaded(
    recipe: Recipe, settings_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "load_model", None)
    with pytest.raises(EvaluationError, match="prior_tokens: got 64, expected at least 256"):
        evaluate_model(recipe, settings_of("a-glass", prior_tokens=(64, 512)))
    with pytest.raises(EvaluationError, match="'auto' is the rule that an export has chosen"):
        evaluate_model(recipe, settings_of("auto"))
    with pytest.raises(EvaluationError, match="refresh: got 'auto', which is measured"):
        evaluate_model(recipe, settings_of("griffin", refresh=(8, "auto")))
    own = replace(recipe, selection=SelectionRecipe(refresh="auto"))
    with pytest.raises(EvaluationError, match="refresh: got 'auto', which is measured"):
        evaluate_model(own, settings_of("auto"), find_auto=lambda *_: (own.selection, "null"))


def test_template_text_needs_a_template(
    recipe_of: Make, checkpoint: Make, settings_of: Make, tmp_path: Path
) -> None:
    for path in Path(checkpoint("llama")).iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RecipeError, match="the model has no chat template"):
        evaluate_model(recipe_of(tmp_path), settings_of("a-glass", prior_text=("template",)))


def test_template_text_starts_where_a_user_would_speak(recipe: Recipe) -> None:
    loaded = load_model(recipe.model)
    start = package.template_prompt(loaded)
    assert loaded.tokenizer.decode(start["prefix"]) == "<s><|user|>"
    assert start["stop_ids"] == package.null_prompt(loaded)["stop_ids"]


def test_magnitudes_are_products_of_norms() -> None:
    model = tiny_model("llama")
    sites = find_ffns(model)
    found = magnitudes(model, sites)
    ffn = model.get_submodule(sites[2].path)
    gate, up, down = ffn.gate_proj.weight[7], ffn.up_proj.weight[7], ffn.down_proj.weight[:, 7]
    assert found.shape == (LAYERS, D_FF) and found.dtype == np.float32
    assert found[2, 7] == pytest.approx(float(gate.norm() * up.norm() * down.norm()), rel=1e-5)
