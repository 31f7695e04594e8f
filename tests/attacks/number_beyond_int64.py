"""A size of 2^63."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"layers": 2', '"layers": 9223372036854775808')
