"""A name holds half of a surrogate pair, which is no character."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(artifact, '"name": "', '"name": "\\ud800')
