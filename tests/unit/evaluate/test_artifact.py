"""Artifacts against the eager model on the same texts and neurons, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_export.artifact import Artifact
from glass_export.errors import EvaluationError
from glass_export.evaluate.artifact import Runner, evaluate_artifact
from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import Chooser
from glass_export.evaluate.protocol import run_texts
from glass_export.evaluate.sweep import Sweep
from glass_export.evaluate.texts import EvalText
from glass_export.families import find_ffns
from glass_export.fusion import Priors
from glass_export.load import load_model
from glass_export.recipe import SelectionRecipe
from glass_export.runtime import Session

Exported = Callable[..., Path]
AUTO = SelectionRecipe(
    fusion="shrinkage", local="squared", prior="G", tau=16.0, sensitivity=0.5, dense_layers=(1,)
)
WEIGHTS = (0.0, 0.0, *[1.0] * 9, 0.0)
TEXTS = [
    EvalText(tuple(range(40, 52)), WEIGHTS, tuple(range(60, 100, 2)), "even"),
    EvalText(tuple(range(90, 102)), WEIGHTS, tuple(range(201, 160, -1)), "falling"),
]
CASES: dict[str, dict[str, Any]] = {
    "rules": {"methods": ("griffin", "a-glass", "shrinkage", "global", "auto")},
    "bounds": {"methods": ("oracle", "random", "dense")},
    "refresh": {"methods": ("griffin", "auto"), "refresh": (1, 5), "dense_start": (0, 3)},
    "dense start": {"methods": ("a-glass",), "dense_start": (4, 30)},
    "short prompt": {"methods": ("griffin", "a-glass"), "prompt_tokens": (3, 6)},
    "density 1": {"methods": ("a-glass",), "density": (1.0,)},
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_artifact_and_eager_model_agree(
    exported: Exported, recipe_of: Any, checkpoint: Any, case: str, every: int
) -> None:
    methods = Sweep(**CASES[case]).expand(0.25, AUTO)
    loaded = load_model(recipe_of(checkpoint("llama")).model)
    priors = Artifact.open(exported("llama")).prior()
    chooser = Chooser(Priors(priors), None, 3)
    model = EagerModel(loaded.model, find_ffns(loaded.model), every=every)
    expected = run_texts(model, TEXTS, methods, chooser)
    with Session.open(exported("llama")) as session:
        runner = Runner(session, methods, Chooser(Priors({}), None, 3), every)
        for index, text in enumerate(TEXTS):
            runner.measure(text, index)
    for method, ours, theirs in zip(methods, runner.traces, expected, strict=False):
        for got, want in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(got.steps, want.steps)
            np.testing.assert_allclose(got.kl, want.kl, atol=2e-4, err_msg=method.label)
            np.testing.assert_allclose(got.nll, want.nll, atol=1e-3, err_msg=method.label)
            np.testing.assert_allclose(got.overlap, want.overlap, atol=0.02, err_msg=method.label)
    steps = sum(text.steps for text in TEXTS)
    assert all(clock.tokens == steps and clock.speed > 0 for clock in runner.clocks)


def test_evaluation_of_an_artifact(exported: Exported, settings_of: Any) -> None:
    settings = settings_of("dense", "griffin", "auto", "oracle", density=(0.25, 1.0))
    outcome = evaluate_artifact(exported("llama"), settings, threads=1)
    by_label = {row.label: row for row in outcome.methods}
    assert list(by_label) == [
        "dense", "griffin 0.25", "griffin", "auto 0.25", "auto", "oracle 0.25", "oracle",
    ]  # fmt: skip
    for label in ("dense", "griffin", "auto", "oracle"):
        assert by_label[label].kl.value == 0.0 and by_label[label].ppl == outcome.dense_ppl
    griffin, oracle = by_label["griffin 0.25"], by_label["oracle 0.25"]
    assert griffin.ratio is not None and griffin.ratio.value == 1.0
    assert griffin.kl.value > 0 and set(oracle.overlap) == {1.0} and max(griffin.overlap) < 1
    assert outcome.baseline == "griffin" and set(griffin.domains) == {"animals", "loops"}
    assert all(row.decode_tps for row in outcome.methods) and outcome.dense_tps
    assert outcome.versions["onnxruntime"] and outcome.tokens > outcome.texts > 0


def test_refresh_auto_is_that_of_the_driver(exported: Exported) -> None:
    """Its first refresh comes as that of a fixed interval; a choice that is always the same ends
    it there.
    """
    text = EvalText(tuple(range(40, 48)), (1.0,) * 8, tuple(range(100, 180)), "rising")
    methods = Sweep(methods=("global",), refresh=("auto", 32)).expand(0.25, None)
    with Session.open(exported("llama")) as session:
        runner = Runner(session, methods, Chooser(Priors({}), None), 1)
        runner.measure(text, 0)
    (auto,), (fixed,), _ = runner.traces
    np.testing.assert_array_equal(auto.kl[:65], fixed.kl[:65])
    assert auto.kl[32] < 1e-4 and fixed.kl[65] < 1e-4 < auto.kl[65]
    assert [row.label for row in methods] == ["global 0.25 refresh auto", "global 0.25 refresh 32"]


def test_answers_are_sampled_once(
    exported: Exported, settings_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = exported("llama"), settings_of("griffin", every=7)
    first = evaluate_artifact(folder, settings)
    monkeypatch.setattr(Session, "generate", None)
    again = evaluate_artifact(folder, settings)
    assert (first.tokens, first.dense_ppl) == (again.tokens, again.dense_ppl)
    assert first.methods[0].kl == again.methods[0].kl


@pytest.mark.parametrize(
    ("methods", "sweep", "message"),
    [
        (["magnitude"], {}, "'magnitude' needs the model's weights"),
        (["oracle"], {"refresh": (8,)}, "'oracle' has neither refresh nor dense start"),
        (["random"], {"dense_start": (8,)}, "'random' has neither refresh nor dense start"),
        (["a-glass"], {"prior_tokens": (512,)}, "an artifact has one prior"),
        (["a-glass"], {"prior_text": ("template",)}, "an artifact has one prior"),
    ],
)
def test_what_an_artifact_cannot_do_is_refused_before_it_runs(
    exported: Exported,
    settings_of: Any,
    methods: list[str],
    sweep: Any,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "open", None)
    with pytest.raises(EvaluationError, match=message):
        evaluate_artifact(exported("llama"), settings_of(*methods, **sweep))


def test_neither_torch_nor_transformers_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import glass_export.evaluate.artifact, glass_export.evaluate.table"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
