"""A number that becomes infinite."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"density": 0.5', '"density": 1e999')
