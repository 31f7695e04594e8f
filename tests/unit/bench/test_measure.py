"""Rounds, quality and memory of several contestants, one of which may fail."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from glass_export.bench.contestants import Contestant, Settings
from glass_export.bench.measure import measure
from glass_export.bench.outcome import Case
from glass_export.errors import WorkerError

SETTINGS = Settings(densities=(0.5, 1.0), threads=(1,), contexts=(4, 8), repeats=2, tokens=3)
Make = Callable[..., Contestant]


def test_everything_is_measured_as_often_as_asked(contestant: Make) -> None:
    outcome = measure([contestant("ours"), contestant("peer", (None,))], SETTINGS)
    ours = [Case("ours", d, 1, c) for d in (0.5, 1.0) for c in (4, 8)]
    theirs = [Case("peer", None, 1, c) for c in (4, 8)]
    assert set(outcome.samples) == set(outcome.memory) == {*ours, *theirs}
    assert {len(turns) for turns in outcome.samples.values()} == {2}
    assert outcome.failures == {} and outcome.engines == {"ours": "toy 1", "peer": "toy 1"}
    turn = outcome.samples[ours[0]][0]
    assert turn["fusion_ms"] == 2.0 and (turn["decode_tps"] or 0) > 0
    if sys.platform == "linux":
        memory = outcome.memory[theirs[0]]
        assert (memory["peak_rss_mb"] or 0) >= (memory["base_rss_mb"] or 0) > 0


def test_quality_is_against_the_first_artifact_or_the_reference(contestant: Make) -> None:
    contestants = [contestant("ours", (0.5,)), contestant("peer", (None,))]
    for reference in (None, contestant("reference")):
        outcome = measure(contestants, SETTINGS, reference)
        for key in (("ours", 0.5), ("peer", None)):
            assert outcome.quality[key]["kl"] == 0.0  # the same toy everywhere
            assert outcome.quality[key]["scored_tokens"] == 3


def test_a_crash_costs_only_the_one_that_crashed(contestant: Make) -> None:
    outcome = measure([contestant("ours"), contestant("crash", (None,))], SETTINGS)
    assert list(outcome.failures) == ["crash"] and "boom" in outcome.failures["crash"]
    assert {len(outcome.samples[Case("ours", d, 1, 4)]) for d in (0.5, 1.0)} == {2}
    assert ("ours", 0.5) in outcome.quality and Case("ours", 1.0, 1, 8) in outcome.memory
    assert not any(case.name == "crash" for case in outcome.memory)


def test_what_cannot_be_loaded_ends_the_benchmark(contestant: Make) -> None:
    with pytest.raises(WorkerError, match="refused: ValueError: no such model"):
        measure([contestant("ours"), contestant("refused", (None,))], SETTINGS)


def test_a_missing_package_says_what_to_install(contestant: Make) -> None:
    with pytest.raises(WorkerError, match=r"pip install llama-cpp-python`, or name a Python"):
        measure([contestant("missing", (None,))], SETTINGS)
