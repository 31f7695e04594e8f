"""A link that leads to itself."""

from __future__ import annotations

from pathlib import Path

CODE = "unreadable"


def attack(artifact: Path) -> None:
    (artifact / "tokenizer.json").unlink()
    (artifact / "tokenizer.json").symlink_to("tokenizer.json")
