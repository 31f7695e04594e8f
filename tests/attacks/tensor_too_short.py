"""A tensor has fewer bytes than its shape needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tensor"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["tensors"][0]["shape"] = [2**20, 2**20]

    hostile.edit(artifact, change)
