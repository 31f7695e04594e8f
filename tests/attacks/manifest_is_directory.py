"""The manifest is a directory."""

from __future__ import annotations

from pathlib import Path

CODE = "unreadable"


def attack(artifact: Path) -> None:
    (artifact / "glass.json").unlink()
    (artifact / "glass.json").mkdir()
