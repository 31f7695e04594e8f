"""A tokenizer_config.json with a key given twice."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "tokenizer_config.json", b'{"bos_token": "<s>", "bos_token": "</s>"}')
