"""The checksum file is larger than memory should be."""

from __future__ import annotations

from pathlib import Path

CODE = "too-large"


def attack(artifact: Path) -> None:
    with (artifact / "glass.json.sha256").open("r+b") as file:
        file.truncate(1 << 34)
