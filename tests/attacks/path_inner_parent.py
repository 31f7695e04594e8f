"""A path that leaves the directory in its middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "path"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][0]["path"] = "a/../../b"

    hostile.edit(artifact, change)
