"""A small builder of ONNX graphs over onnx-ir."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from numpy.typing import NDArray

from glass_export.graph import Weight
from glass_export.spec import GraphSignature, TensorSpec
from glass_export.targets.onnx.weights import Arrays, WeightFile

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
        self.graph = ir.Graph([], [], nodes=[], opset_imports=dict(OPSETS), name=name)
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
        name = weight.name

        def load() -> Arrays:
            return {name: weight.load().to(torch.float32).contiguous().numpy()}

        return self.stored(name, math.prod(weight.shape), load)

    def stored(self, name: str, count: int, make: Callable[[], Arrays]) -> ir.Value:
        """The initializer ``name`` in the shared weights file; see WeightFile.add."""
        self.weights.add(name, count, make)
        return self.shared(name)

    def shared(self, name: str) -> ir.Value:
        """The initializer of a tensor that the shared weights file has already."""
        if name in self.graph.initializers:
            return self.graph.initializers[name]
        return self._initializer(name, self.weights.external(name))

    def view(self, name: str, of: str, shape: tuple[int, ...]) -> ir.Value:
        """An initializer over the bytes of another one in the shared weights file."""
        self.weights.add_view(name, of, shape)
        return self.shared(name)

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
        self.graph.opset_imports.setdefault(domain, 1)
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
