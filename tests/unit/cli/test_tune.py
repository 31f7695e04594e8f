"""``tune``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import Exported, glass


@pytest.fixture
def own_copy(exported: Exported, tmp_path: Path) -> Path:
    """An artifact that may be written to."""
    return shutil.copytree(exported("llama"), tmp_path / "llama")


def tuning(folder: Path, prompts: Path, *options: str) -> list[str | Path]:
    small = ["--limit", "2", "--tokens", "16", "--threads", "1", "--prompts", prompts]
    sweep = ["--densities", "0.75,0.25", "--refresh", "off,8", "--dense-start", "0"]
    return ["tune", folder, *small, *sweep, *options]


def profiles(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(glass("inspect", folder, "--json").stdout)
    return found["profiles"]


def test_tune_keeps_what_it_picked_as_a_profile(own_copy: Path, prompts: Path) -> None:
    before = profiles(own_copy)
    outcome = glass(*tuning(own_copy, prompts, "--max-kl", "1000", "--name", "mine"))
    assert "profile 'mine' written" in outcome.stdout and "x dense" in outcome.stdout
    assert "4 settings and the dense form on 2 answers" in outcome.stderr
    (added,) = profiles(own_copy).keys() - before.keys()
    found = profiles(own_copy)["mine"]
    assert added == "mine" and found["kl"] > 0 and found["device"].endswith(", 1 thread")
    shown = glass("inspect", own_copy).stdout
    assert "profiles" in shown and "mine" in shown and "balanced" in shown
    args = ["run", own_copy, "the fox", "--max-new-tokens", "4", "--json", "--profile", "mine"]
    assert json.loads(glass(*args).stdout)["stats"]["density"] == found["density"]
    assert json.loads(glass(*args, "--density", "0.5").stdout)["stats"]["density"] == 0.5


def test_tune_prints_one_json_line(own_copy: Path, prompts: Path) -> None:
    before = (own_copy / "glass.json").read_bytes()
    outcome = glass(*tuning(own_copy, prompts, "--max-kl", "1000", "--dry-run", "--json"))
    found = json.loads(outcome.stdout)
    assert len(found["points"]) == 4 and found["dense"]["speedup"] == 1.0
    assert found["picked"]["speedup"] == max(point["speedup"] for point in found["points"])
    assert any(point["front"] for point in found["points"] if point["speedup"] > 1) or all(
        point["speedup"] <= 1 for point in found["points"]
    )
    assert found["profile"] is None and (own_copy / "glass.json").read_bytes() == before


def test_tune_without_a_goal_shows_the_front_and_writes_nothing(
    own_copy: Path, prompts: Path
) -> None:
    before = (own_copy / "glass.json").read_bytes()
    shown = glass(*tuning(own_copy, prompts)).stdout
    assert "dense" in shown and "written" not in shown
    assert (own_copy / "glass.json").read_bytes() == before


def test_tune_tells_the_closest_when_nothing_fits(own_copy: Path, prompts: Path) -> None:
    before = (own_copy / "glass.json").read_bytes()
    outcome = glass(*tuning(own_copy, prompts, "--min-speedup", "1000"), code=1)
    assert (
        "no setting has a speed-up of at least 1000" in outcome.stderr
        and "the closest is density" in outcome.stderr
    )
    assert (own_copy / "glass.json").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-kl", "0"], "max_kl: got 0, expected a number above 0"),
        (["--min-speedup", "-1"], "min_speedup: got -1"),
        (["--densities", "0.5,1"], "densities: got 1, expected values below 1"),
        (["--densities", "0.5,0"], "selection.density: got 0.0"),
        (["--densities", "half"], "--densities 'half': expected numbers joined by commas"),
        (["--refresh", "off,often"], "got 'often', expected a whole number, auto or off"),
        (["--dense-start", "-1"], "selection.dense_start: got -1"),
        (["--name", " "], "--name: got nothing"),
        (["--tokens", "4"], "tokens: got 4"),
        (["--prompts", "no.jsonl"], "no such file"),
    ],
    ids=str,
)
def test_tune_refuses_before_it_measures(exported: Exported, args: list[str], message: str) -> None:
    outcome = glass("tune", exported("llama"), *args, code=2)
    shown = " ".join(outcome.stderr.replace("│", " ").split())
    assert message in shown and outcome.stdout == "" and "dense answers" not in shown
