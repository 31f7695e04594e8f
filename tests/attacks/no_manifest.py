"""There is no manifest."""

from __future__ import annotations

from pathlib import Path

CODE = "no-artifact"


def attack(artifact: Path) -> None:
    (artifact / "glass.json").unlink()
