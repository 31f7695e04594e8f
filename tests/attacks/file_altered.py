"""A file of the right size is another one."""

from __future__ import annotations

from pathlib import Path

CODE = "hash"


def attack(artifact: Path) -> None:
    path = artifact / "weights.bin"
    path.write_bytes(bytes(path.stat().st_size))
