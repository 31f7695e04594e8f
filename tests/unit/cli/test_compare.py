"""``compare``."""

from __future__ import annotations

import json

from command import Exported, glass


def test_compare_shows_both_answers(exported: Exported) -> None:
    args = ["compare", exported("llama"), "the fox", "--max-new-tokens", "6", "--density", "0.25"]
    shown = glass(*args).stdout
    assert "--- dense" in shown and "--- density 0.25" in shown and "as fast as dense" in shown
    dense, sparse = json.loads(glass(*args, "--json").stdout)
    assert (dense["stats"]["density"], sparse["stats"]["density"]) == (1.0, 0.25)


def test_compare_shows_the_profiles(exported: Exported) -> None:
    args = ["compare", exported("llama"), "the fox", "--max-new-tokens", "20", "--repeat", "1"]
    rows = json.loads(glass(*args, "--json").stdout)
    assert [row["setting"] for row in rows] == ["dense", "fast", "balanced", "faithful"]
    assert rows[0]["stats"]["density"] == 1.0 and rows[0]["stats"]["refreshes"] == 0
    assert rows[2]["stats"]["refreshes"] == 1, "its dense start ends"
    shown = glass(*args, "--profile", "balanced", "--density", "0.25").stdout
    assert [line for line in shown.splitlines() if line.startswith("---")] == [
        "--- dense", "--- density 0.25", "--- balanced",
    ]  # fmt: skip


def test_compare_refuses_an_unknown_profile(exported: Exported) -> None:
    outcome = glass("compare", exported("llama"), "the fox", "--profile", "balance", code=2)
    assert "did you mean 'balanced'?" in outcome.stderr and outcome.stdout == ""


def test_compare_takes_several_densities(exported: Exported) -> None:
    args = ["compare", exported("llama"), "the fox", "--max-new-tokens", "4", "--repeat", "1"]
    rows = json.loads(glass(*args, "--density", "0.75,0.5", "--json").stdout)
    assert [row["stats"]["density"] for row in rows] == [1.0, 0.75, 0.5]
    assert "joined by commas" in glass(*args, "--density", "half", code=2).stderr
