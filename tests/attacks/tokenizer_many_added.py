"""A hundred thousand added tokens, each looked for at every place of a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        model = tokenizer["added_tokens"][0]
        tokenizer["added_tokens"] += [
            {**model, "id": 320 + n, "content": f"a{n:06}", "special": False} for n in range(20_000)
        ]

    hostile.edit_tokenizer(artifact, change)
