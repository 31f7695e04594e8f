"""Normalizer steps that make 200 characters of one, four times in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [step] * 4}

    hostile.edit_tokenizer(artifact, change)
