"""The checksum file has more lines than one rewrite leaves."""

from __future__ import annotations

from pathlib import Path

CODE = "checksum"


def attack(artifact: Path) -> None:
    path = artifact / "glass.json.sha256"
    path.write_bytes(path.read_bytes() * 3)
