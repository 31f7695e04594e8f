"""Artifacts that version 0.1 wrote: every later version reads them, and answers the same."""

from __future__ import annotations

import json
from pathlib import Path

import golden_artifact
import pytest
import runner

from glass_export.artifact import Artifact

ANSWERS = json.loads((golden_artifact.FOLDER / "answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("target", golden_artifact.TARGETS)
def test_opens_and_answers_as_ever(target: str) -> None:
    folder = golden_artifact.FOLDER / target
    artifact = Artifact.open(folder, check="full")
    assert artifact.manifest.schema_version == 1
    assert set(artifact.prior()) == {"A", "I", "G", "F"}
    assert golden_artifact.answer(folder) == ANSWERS[target]


def test_cpp_answers_as_ever(glass_run: Path) -> None:
    answer = runner.answer(
        glass_run, golden_artifact.FOLDER / "executorch", "--prompt", golden_artifact.PROMPT,
        "--max-new-tokens", str(golden_artifact.TOKENS), "--density=0.5",
    )  # fmt: skip
    assert answer["token_ids"] == ANSWERS["executorch"]


def test_is_small() -> None:
    files = [path for path in golden_artifact.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 450_000
