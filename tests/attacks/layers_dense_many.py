"""A million dense layers, each given twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["selection"]["dense_layers"] = [*range(500_000)] * 2

    hostile.edit(artifact, change)
