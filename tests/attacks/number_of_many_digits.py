"""A number of a hundred thousand digits, which takes long to read."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"layers": 2', '"layers": ' + "9" * 100_000)
