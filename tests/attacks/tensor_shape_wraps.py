"""A shape whose product wraps around to the true size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "tensor"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["tensors"][0]["shape"] += [2**32, 2**32]

    hostile.edit(artifact, change)
