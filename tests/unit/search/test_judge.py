"""Rules are compared on the same texts, each of them once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import D_FF, LAYERS, tiny_model

from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import RULES, Chooser, Method
from glass_export.evaluate.protocol import run_texts
from glass_export.evaluate.summary import Mean
from glass_export.evaluate.texts import EvalText
from glass_export.families import find_ffns
from glass_export.fusion import Priors
from glass_export.search import judge as judge_module
from glass_export.search.judge import LAYER_STEPS, LAYER_TEXTS, Judge
from glass_export.selection import SelectionRecipe
from glass_export.spec import STATISTICS

METHODS = [Method(name, RULES[name]) for name in ("griffin", "squared", "global")]


def random_texts(count: int, steps: int) -> list[EvalText]:
    rng = np.random.default_rng(0)
    return [
        EvalText(
            prompt=tuple(rng.integers(2, 320, 6).tolist()),
            weights=(0.0, 1.0, 1.0, 1.0, 1.0, 1.0),
            continuation=tuple(rng.integers(2, 320, steps + 1).tolist()),
            domain="held-out",
        )
        for _ in range(count)
    ]


def chooser() -> Chooser:
    rng = np.random.default_rng(1)
    scores = {name: rng.random((LAYERS, D_FF), np.float32) for name in STATISTICS}
    return Chooser(Priors(scores), None)


def judge_of(count: int = 3, steps: int = 12, silent: tuple[int, ...] = ()) -> Judge:
    """A judge of random texts; FFNs of the layers ``silent`` add nothing."""
    model = tiny_model("llama")
    sites = find_ffns(model)
    for layer in silent:
        model.get_submodule(sites[layer].path).down_proj.weight.data.zero_()
    return Judge(EagerModel(model, sites), random_texts(count, steps), chooser())


def test_results_are_means_over_texts() -> None:
    judge = judge_of()
    judge.compare(METHODS)
    model = tiny_model("llama")
    traces = run_texts(EagerModel(model, find_ffns(model)), random_texts(3, 12), METHODS, chooser())
    assert [*judge.results] == METHODS
    for method, rows in zip(METHODS, traces, strict=True):
        expected = np.array([trace.kl.mean() for trace in rows])
        assert judge.results[method].value == pytest.approx(expected.mean(), rel=1e-6)
        assert judge.results[method].error == pytest.approx(
            expected.std(ddof=1) / np.sqrt(3), rel=1e-6
        )
        assert expected.min() > 0


def test_the_best_has_the_smallest_mean_and_of_equal_ones_is_the_first() -> None:
    judge = judge_of()
    judge.results = dict(zip(METHODS, [Mean(0.4, 0), Mean(0.2, 0.9), Mean(0.2, 0)], strict=True))
    assert judge.best == METHODS[1]


def test_only_new_rules_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Method] = []

    def recorded(model: Any, texts: Any, methods: Any, choose: Any) -> Any:
        measured.extend(methods)
        return run_texts(model, texts, methods, choose)

    monkeypatch.setattr(judge_module, "run_texts", recorded)
    judge = judge_of(1)
    judge.compare(METHODS[:2])
    before = dict(judge.results)
    judge.compare(METHODS)
    assert measured == METHODS
    assert {method: judge.results[method] for method in METHODS[:2]} == before
    judge.compare([])
    judge.compare(METHODS)
    assert measured == METHODS


def test_a_layer_whose_output_is_nothing_costs_nothing() -> None:
    found = judge_of(silent=(1,)).layer_kl(METHODS[1])
    assert len(found) == LAYERS and all(isinstance(value, float) for value in found)
    assert abs(found[1]) < 1e-6
    assert min(found[0], found[2]) > 1e-4


def test_the_cost_of_a_layer_is_that_of_the_others_kept_dense() -> None:
    """The same by the protocol: all but one layer dense, with the budget that leaves it half."""
    found = judge_of(1).layer_kl(METHODS[0])
    model = tiny_model("llama")
    eager, (text,) = EagerModel(model, find_ffns(model)), random_texts(1, 12)
    dense = eager.dense(text)
    neurons = chooser().neurons(METHODS[0], dense.prompt(), dense.prompt, 0)
    assert neurons.shape == (LAYERS, D_FF // 2)
    for layer in range(LAYERS):
        mask = torch.ones(1, LAYERS, D_FF, dtype=torch.bool)
        mask[0, layer] = False
        mask[0, layer, neurons[layer].tolist()] = True
        expected = eager.sparse(dense, mask, 0, text.steps).kl.mean()
        assert found[layer] == pytest.approx(expected, rel=1e-4)


def test_layers_are_measured_on_the_beginnings_of_a_few_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge, spans = judge_of(LAYER_TEXTS + 2, LAYER_STEPS + 20), []
    sparse = judge._model.sparse

    def recorded(dense: Any, masks: torch.Tensor, start: int, stop: int) -> Any:
        spans.append((start, stop))
        return sparse(dense, masks, start, stop)

    monkeypatch.setattr(judge._model, "sparse", recorded)
    judge.layer_kl(Method("half", SelectionRecipe(fusion="global", prior="G")))
    assert spans == [(0, LAYER_STEPS)] * LAYER_TEXTS
