"""A float where a whole number belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["dims"]["layers"] = 2.0

    hostile.edit(artifact, change)
