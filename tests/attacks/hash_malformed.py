"""The SHA-256 of a file is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][0]["sha256"] = "z" * 64

    hostile.edit(artifact, change)
