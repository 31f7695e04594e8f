"""A tokenizer that ends early."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    content = (artifact / "tokenizer.json").read_bytes()
    hostile.put(artifact, "tokenizer.json", content[: len(content) // 2])
