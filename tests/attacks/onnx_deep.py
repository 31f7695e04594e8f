"""Graphs inside of graphs, to use up the stack."""

from __future__ import annotations

from pathlib import Path

import hostile
import onnx

CODE = "graph"


def attack(artifact: Path) -> None:
    graph = onnx.helper.make_graph([], "inner", [], [])
    for _ in range(20):
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = onnx.helper.make_graph([node], "outer", [], [])
    hostile.put(artifact, "decode.onnx", onnx.helper.make_model(graph).SerializeToString())
