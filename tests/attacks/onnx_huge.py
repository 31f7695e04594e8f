"""A graph larger than memory should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    with (artifact / "decode.onnx").open("r+b") as file:
        file.truncate(1 << 34)

    def change(manifest: dict[str, Any]) -> None:
        next(item for item in manifest["files"] if item["path"] == "decode.onnx")["size"] = 1 << 34

    hostile.edit(artifact, change)
