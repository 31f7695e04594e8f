"""A density that keeps no neuron."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["selection"]["density"] = 0

    hostile.edit(artifact, change)
