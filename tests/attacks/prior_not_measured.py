"""The default prior is not among the statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["prior"]["statistics"] = ["F"]

    hostile.edit(artifact, change)
