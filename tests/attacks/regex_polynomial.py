"""Five repeats in a row: time to the fifth power of the length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        split = {
            "type": "Split",
            "pattern": {"Regex": r"a*a*a*a*a*b"},
            "behavior": "Isolated",
            "invert": False,
        }
        tokenizer["pre_tokenizer"] = split

    hostile.edit_tokenizer(artifact, change)
