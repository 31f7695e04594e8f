"""A tokenizer of a hundred thousand lists inside each other."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "tokenizer.json", b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
