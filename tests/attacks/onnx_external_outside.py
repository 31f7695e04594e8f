"""A graph's tensor lies in a file outside of the directory."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "graph"


def attack(artifact: Path) -> None:
    graph = (artifact / "decode.onnx").read_bytes()
    hostile.put(artifact, "decode.onnx", graph.replace(b"weights.bin", b"../../../ab"))
