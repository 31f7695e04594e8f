"""No schema version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "schema"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["schema_version"]

    hostile.edit(artifact, change)
