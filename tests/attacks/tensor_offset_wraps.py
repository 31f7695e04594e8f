"""An offset that wraps around when the length is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tensor"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["tensors"][0]["offset"] = 2**63 - 8

    hostile.edit(artifact, change)
