"""A file is listed twice, in capitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "path"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"].append(
            {**manifest["files"][0], "path": manifest["files"][0]["path"].upper()}
        )

    hostile.edit(artifact, change)
