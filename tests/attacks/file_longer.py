"""A file is longer than the manifest says."""

from __future__ import annotations

from pathlib import Path

CODE = "size"


def attack(artifact: Path) -> None:
    with (artifact / "weights.bin").open("ab") as file:
        file.write(b"x")
