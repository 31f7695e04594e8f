"""A tensor is listed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tensor"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["tensors"].append(manifest["target"]["tensors"][0])

    hostile.edit(artifact, change)
