"""A tensor of a type that there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tensor"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["tensors"][0]["dtype"] = "object"

    hostile.edit(artifact, change)
