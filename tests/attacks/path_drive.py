"""A drive of Windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "path"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][0]["path"] = "c:b"

    hostile.edit(artifact, change)
