"""The manifest is a list."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.seal(artifact, b"[1]")
