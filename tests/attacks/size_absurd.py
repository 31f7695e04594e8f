"""Sizes whose product no 64-bit number holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["dims"].update(layers=2**62, d_ff=2**62)

    hostile.edit(artifact, change)
