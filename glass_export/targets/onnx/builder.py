"""A small builder of ONNX graphs over onnx-ir."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from glass_export.graph import Weight
from glass_export.spec import GraphSignature, TensorSpec
from glass_export.targets.onnx.weights import WeightFile

OPSETS = {"": 23, "com.microsoft": 1}
IR_VERSION = 11
_TYPES = {
    "float32": ir.DataType.FLOAT,
    "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32,
}


class GraphBuilder:
    """Collects nodes, inputs, outputs and initializers of one graph."""

    def __init__(self, name: str, weights: WeightFile) -> None:
        self.name = name
        self.weights = weights
        self.graph = ir.Graph([], [], nodes=[], opset_imports=OPSETS, name=name)
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._counts: dict[str, int] = {}

    def input(self, spec: TensorSpec) -> ir.Value:
        """Declare a graph input."""
        value = _typed(spec)
        self.graph.inputs.append(value)
        self._inputs.append(spec)
        return value

    def output(self, value: ir.Value, spec: TensorSpec) -> None:
        """Declare ``value`` a graph output under the name and shape of ``spec``."""
        value.name = spec.name
        value.shape, value.type = ir.Shape(spec.shape), ir.TensorType(_TYPES[spec.dtype])
        self.graph.outputs.append(value)
        self._outputs.append(spec)

    def weight(self, weight: Weight) -> ir.Value:
        """An initializer in the shared weights file; the same weight gives the same value."""
        if weight.name in self.graph.initializers:
            return self.graph.initializers[weight.name]
        return self._initializer(weight.name, self.weights.add(weight))

    def array(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """An initializer in the shared weights file from an array."""
        return self._initializer(name, self.weights.add_array(name, array))

    def constant(self, name: str, value: NDArray[Any]) -> ir.Value:
        """A small initializer inside the graph file; the same name gives the same value."""
        if name in self.graph.initializers:
            return self.graph.initializers[name]
        return self._initializer(name, ir.tensor(value, name=name))

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        value = ir.Value(
            name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype)
        )
        value.const_value = tensor
        self.graph.register_initializer(value)
        return value

    def ops(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        count: int,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """Append a node with ``count`` outputs."""
        number = self._counts[kind] = self._counts.get(kind, -1) + 1
        name = f"{kind}_{number}"
        outputs = [ir.Value(name=f"{name}.{i}" if count > 1 else name) for i in range(count)]
        node = ir.node(kind, inputs, attributes, domain=domain, outputs=outputs, name=name)
        self.graph.append(node)
        return outputs

    def op(
        self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Append a node of one output."""
        return self.ops(kind, inputs, 1, domain=domain, **attributes)[0]

    def signature(self) -> GraphSignature:
        """The declared inputs and outputs."""
        return GraphSignature(inputs=tuple(self._inputs), outputs=tuple(self._outputs))

    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.graph)

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the model file; weights stay in the shared file."""
        model = ir.Model(self.graph, ir_version=IR_VERSION, producer_name="glass-export")
        model.metadata_props.update(metadata)
        ir.save(model, path)


def _typed(spec: TensorSpec) -> ir.Value:
    return ir.Value(
        name=spec.name, shape=ir.Shape(spec.shape), type=ir.TensorType(_TYPES[spec.dtype])
    )
