"""A graph of other bytes."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "graph"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "decode.onnx", b"\xff" * 100)
