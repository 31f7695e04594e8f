"""A hundred thousand files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] *= 20_000

    hostile.edit(artifact, change)
