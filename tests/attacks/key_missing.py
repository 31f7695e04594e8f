"""A key is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["model"]["dims"]["heads"]

    hostile.edit(artifact, change)
