"""A token with the id -1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["vocab"]["zzz"] = -1

    hostile.edit_tokenizer(artifact, change)
