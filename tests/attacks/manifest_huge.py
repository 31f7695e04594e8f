"""The manifest is larger than memory should be."""

from __future__ import annotations

from pathlib import Path

CODE = "too-large"


def attack(artifact: Path) -> None:
    with (artifact / "glass.json").open("r+b") as file:
        file.truncate(1 << 34)  # sparse: takes no room on the disk
