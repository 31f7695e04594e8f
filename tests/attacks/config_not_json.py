"""A tokenizer_config.json that is no JSON."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "tokenizer_config.json", b"{'bos_token': 1}")
