"""What tests of several commands need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact that can be opened and runs, without an export."""
    return tiny_artifact.write(tmp_path / "tiny")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts that fit the context of a tiny model, in two domains."""
    lines = [("the quick fox", "fast"), ("the lazy dog", "slow"), ("jumps over", "fast")]
    entries = [json.dumps({"prompt": text, "domain": domain}) for text, domain in lines]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(entries))
    return path
