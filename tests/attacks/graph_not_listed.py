"""A graph that no entry of files describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["graphs"]["decode"] = "glass.json"

    hostile.edit(artifact, change)
