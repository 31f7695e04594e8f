"""A tokenizer_config.json of ten thousand lists inside each other."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    text = b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    hostile.put(artifact, "tokenizer_config.json", text)
