"""Measuring the settings of an artifact, and what a pick says and keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glass_export.artifact import Artifact
from glass_export.errors import EvaluationError, TuningError
from glass_export.evaluate import artifact as evaluation
from glass_export.evaluate.answers import AnswerSettings
from glass_export.evaluate.prompts import EvalPrompt
from glass_export.evaluate.summary import Mean
from glass_export.evaluate.sweep import EvalSettings, Sweep
from glass_export.selection import Profile, default_profiles
from glass_export.tune import Goal, Point, as_profile, closest, front, measure, pick

Exported = Callable[..., Path]
PROMPTS = tuple(EvalPrompt(text, "tiny") for text in ("the quick brown fox", "over and over"))


def settings(**sweep: Any) -> EvalSettings:
    return EvalSettings(
        prompts=PROMPTS,
        prompts_name="tiny",
        sweep=Sweep(methods=("auto",), **sweep),
        answers=AnswerSettings(tokens=24, temperature=1.5),
    )


def point(
    kl: float, speedup: float, *, density: float = 0.5, refresh: int = 0, start: int = 0
) -> Point:
    return Point(
        density=density,
        refresh=refresh,
        dense_start=start,
        kl=Mean(kl, 0.01),
        tps=10 * speedup,
        speedup=speedup,
    )


FAST, MIDDLE, FAITHFUL = point(1.0, 2.0), point(0.4, 1.5, refresh=32), point(0.1, 1.1, start=16)
SLOW = point(0.5, 1.4, refresh=8)
MEASURED = [FAITHFUL, SLOW, FAST, MIDDLE]


def test_every_setting_is_measured_beside_the_dense_form(exported: Exported) -> None:
    sweep = settings(density=(0.75, 0.25), refresh=(0, 4), dense_start=(0, 30))
    found = measure(exported("llama"), sweep, threads=1)
    assert [(p.density, p.refresh, p.dense_start) for p in found.points] == [
        (0.75, 0, 0), (0.75, 0, 30), (0.75, 4, 0), (0.75, 4, 30),
        (0.25, 0, 0), (0.25, 0, 30), (0.25, 4, 0), (0.25, 4, 30),
    ]  # fmt: skip
    by_setting = {(p.density, p.refresh, p.dense_start): p for p in found.points}
    assert by_setting[0.25, 0, 0].kl.value > by_setting[0.75, 0, 0].kl.value > 0
    assert by_setting[0.25, 0, 30].kl.value == 0.0  # longer than any answer
    for p in found.points:
        assert p.tps > 0 and p.speedup == p.tps / found.dense.tps
    assert (found.dense.density, found.dense.speedup, found.dense.label) == (1.0, 1.0, "dense")
    assert found.device.endswith(", 1 thread") and found.tokens > found.texts > 0


def test_the_dense_form_is_no_setting(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "Session", None)
    with pytest.raises(EvaluationError, match="densities: got 1, expected values below 1"):
        measure(exported("llama"), settings(density=(0.5, 1.0)))


def test_front_goes_from_the_fastest_to_the_most_faithful() -> None:
    assert front(MEASURED) == (FAST, MIDDLE, FAITHFUL)
    assert front([*MEASURED, point(0.0, 1.0, density=1.0)])[-1].label == "dense"
    assert front([point(0.2, 0.9), point(0.0, 1.0, density=1.0)])[0].label == "dense"


@pytest.mark.parametrize(
    ("max_kl", "min_speedup", "expected"),
    [
        (0.5, None, MIDDLE),
        (0.1, None, FAITHFUL),
        (9.0, None, FAST),
        (None, 1.2, MIDDLE),
        (None, 1.05, FAITHFUL),
        (0.5, 1.2, MIDDLE),
    ],
)
def test_pick(max_kl: float | None, min_speedup: float | None, expected: Point) -> None:
    assert pick(MEASURED, Goal(max_kl=max_kl, min_speedup=min_speedup)) == expected


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Goal(max_kl=0.05), "a KL of at most 0.05; the closest is density 0.5, dense start 16"),
        (Goal(min_speedup=3), "a speed-up of at least 3; the closest is density 0.5, with KL 1"),
        (
            Goal(max_kl=0.5, min_speedup=1.6),
            "a KL of at most 0.5 and a speed-up of at least 1.6; the closest is density 0.5, "
            "refresh 32, with KL 0.400 and speed-up 1.50",
        ),
    ],
)
def test_when_none_fits_the_closest_is_named(goal: Goal, message: str) -> None:
    with pytest.raises(TuningError) as caught:
        pick(MEASURED, goal)
    assert message in str(caught.value) and caught.value.exit_code == 1
    assert not goal.met_by(closest(MEASURED, goal))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["max_kl", "min_speedup"])
def test_goal_out_of_range(name: str, value: float) -> None:
    with pytest.raises(EvaluationError, match=f"{name}: got .*, expected a number above 0"):
        Goal(**{name: value})


def test_a_point_becomes_a_profile_with_its_figures() -> None:
    assert as_profile(point(0.1234567, 1.23456, refresh=32, start=16), "a board") == Profile(
        density=0.5, refresh=32, dense_start=16, kl=0.12346, speedup=1.235, device="a board"
    )


def test_an_export_has_the_default_profiles(exported: Exported) -> None:
    manifest = Artifact.open(exported("llama")).manifest
    assert manifest.profiles == default_profiles(manifest.selection)
    assert [*manifest.profiles] == ["fast", "balanced", "faithful"]


def test_neither_torch_nor_transformers_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import glass_export.tune"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
