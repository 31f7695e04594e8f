"""A hundred thousand lists inside each other, to use up the stack."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    depth = 100_000
    hostile.replace_text(
        artifact, '"tools": {', '"tools": {"x": ' + "[" * depth + "]" * depth + ","
    )
