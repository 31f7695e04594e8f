"""A key of an inner object is given twice."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"layers": 2', '"layers": 2, "layers": 9')
