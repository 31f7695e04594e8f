"""A number of heads that divides by 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["dims"]["kv_heads"] = 0

    hostile.edit(artifact, change)
