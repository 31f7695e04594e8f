"""A merge of tokens that there are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["merges"].append(["zzz", "yyy"])

    hostile.edit_tokenizer(artifact, change)
