"""The schema version is a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "schema"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["schema_version"] = "1"

    hostile.edit(artifact, change)
