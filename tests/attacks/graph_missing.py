"""There is no decode graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["target"]["graphs"]["decode"]

    hostile.edit(artifact, change)
