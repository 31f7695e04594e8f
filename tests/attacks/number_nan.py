"""NaN, which is no JSON."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"density": 0.5', '"density": NaN')
