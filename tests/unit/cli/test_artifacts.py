"""``inspect``, ``verify`` and ``recipes``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_artifact
from command import Exported, glass

from glass_export.artifact import ArtifactWriter
from glass_export.manifest import JudgedRule, SearchInfo
from glass_export.recipe import recipe_names


def test_inspect(artifact: Path) -> None:
    shown = glass("inspect", artifact).stdout
    for word in ("tiny", "llama", "decode.onnx", "logits", "passed", "density 0.5"):
        assert word in shown
    assert json.loads(glass("inspect", artifact, "--json").stdout)["model"]["name"] == "tiny"


@pytest.mark.parametrize(
    "command", ["inspect", "verify", "run", "compare", "bench", "eval", "tune"]
)
def test_broken_artifact(artifact: Path, command: str) -> None:
    (artifact / "weights.bin").write_bytes(b"short")
    more = ["hello"] if command in ("run", "compare") else []
    outcome = glass(command, artifact, *more, code=1)
    assert "weights.bin: got 5 bytes, expected 64" in outcome.stderr
    assert "Traceback" not in outcome.stderr and outcome.stdout == ""


def test_verify_checks_hashes(artifact: Path) -> None:
    (artifact / "weights.bin").write_bytes(b"x" * 64)
    assert "weights.bin: altered" in glass("verify", artifact, code=1).stderr


def test_recipes() -> None:
    shown = glass("recipes").stdout
    listed = [entry["name"] for entry in json.loads(glass("recipes", "--json").stdout)]
    assert listed == recipe_names() and {"smollm2", "qwen2", "gemma3"} <= set(listed)
    assert all(name in shown for name in listed)


def test_verify_passes_and_inspect_shows_it(exported: Exported) -> None:
    assert "verification: passed" in glass("verify", exported("llama")).stdout
    assert json.loads(glass("verify", exported("llama"), "--json").stdout)["passed"] is True
    assert "verification: passed" in glass("inspect", exported("llama")).stdout


def test_inspect_shows_the_best_rules_of_the_search(tmp_path: Path) -> None:
    rules = tuple(
        JudgedRule(rule=f"rule-{number}", text="mixed", kl=0.1 * number, error=0.01)
        for number in range(1, 8)
    )
    search = SearchInfo(
        density=0.4, texts=12, steps=1440, seconds=61.2, layer_kl=(0.1, 0.2), rules=rules
    )
    with ArtifactWriter(tmp_path / "searched") as writer:
        tiny_artifact.fill(writer.path)
        writer.commit(dataclasses.replace(tiny_artifact.manifest(), search=search))
    shown = glass("inspect", tmp_path / "searched").stdout
    assert "best of 7, found at density 0.4 on 12 texts (1,440 tokens)" in shown
    assert "0.500 ± 0.010" in shown and "rule-5" in shown and "rule-6" not in shown
    assert "mixed" in shown
