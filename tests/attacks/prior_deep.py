"""A header of ten thousand lists inside each other."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    text = ('{"A": ' + "[" * 10_000 + "]" * 10_000 + "}").encode()
    hostile.put(artifact, "prior.safetensors", len(text).to_bytes(8, "little") + text)
