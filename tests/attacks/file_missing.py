"""A file is missing."""

from __future__ import annotations

from pathlib import Path

CODE = "missing"


def attack(artifact: Path) -> None:
    (artifact / "tokenizer.json").unlink()
