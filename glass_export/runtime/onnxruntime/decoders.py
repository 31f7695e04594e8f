"""The decode graph, and the three ways in which it learns the chosen neurons.

Legend: L layers, D model width, F FFN width, K kept neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import ArtifactError
from glass_export.manifest import TargetInfo
from glass_export.runtime.base import IndexArray
from glass_export.runtime.onnxruntime.graphs import Buffer, Graph, Loader
from glass_export.runtime.onnxruntime.model_file import Attributes
from glass_export.spec import ModelDims, TensorSpec

Bind = Callable[[Graph], None]
"""Binds what the decode graph always has: token, position, caches and logits."""

_ZERO_POINT = 128
"""Of MatMulNBits with 8 bits."""


class Decoder(Protocol):
    """Runs one token with the chosen neurons."""

    def select(self, indices: IndexArray | None) -> None:
        """See Backend.select. Shape: [L,K] with padding."""
        ...

    def run(self) -> None:
        """Run the decode graph over the bound memory."""
        ...


def make_decoder(target: TargetInfo, loader: Loader, dims: ModelDims, bind: Bind) -> Decoder:
    """The decoder for the form of an artifact's FFN weights; all neurons are selected."""
    if target.custom_ops:
        return BundleDecoder(loader, dims, bind)
    if target.ffn_dtype == "fp32":
        return RowDecoder(loader, target, bind)
    return SessionDecoder(loader, dims, bind)


def _row_inputs(target: TargetInfo) -> list[TensorSpec]:
    """The inputs of decode that pack gives: rows of the chosen neurons."""
    packed = {spec.name for spec in target.signatures["pack"].outputs}
    return [spec for spec in target.signatures["decode"].inputs if spec.name in packed]


def _has_one_size(target: TargetInfo) -> bool:
    """Whether these share one symbol for the kept neurons of all layers."""
    rows = [spec.shape[0] for spec in _row_inputs(target) if spec.name.startswith("down.")]
    return len(set(rows)) < len(rows)


def _layer_of(spec: TensorSpec) -> tuple[str, int]:
    """What an input of decode holds, and of which layer: down.3."""
    part, _, layer = spec.name.partition(".")
    return part, int(layer)


def neurons_of(row: NDArray[np.int32]) -> NDArray[np.int32]:
    """The neurons of a row without its padding, -1."""
    return row[row >= 0]


class BundleDecoder:
    """The project's operators read the chosen neurons in place: nothing is packed."""

    def __init__(self, loader: Loader, dims: ModelDims, bind: Bind) -> None:
        self._graph = loader.load("decode", arena=True)
        bind(self._graph)
        self._every = np.tile(np.arange(dims.d_ff, dtype=np.int32), (dims.rows, 1))
        self.select(None)

    def select(self, indices: IndexArray | None) -> None:
        """See Decoder."""
        chosen = self._every if indices is None else np.array(indices, np.int32, order="C")
        self._graph.input("ffn_idx", chosen)

    def run(self) -> None:
        """See Decoder."""
        self._graph.run()


class RowDecoder:
    """float32 rows of the chosen neurons are inputs, which a graph of its own packs.

    Dense decoding reads the mapped weights in place, without packing.
    """

    def __init__(self, loader: Loader, target: TargetInfo, bind: Bind) -> None:
        self._weights, self._inputs = loader.weights, _row_inputs(target)
        # The graphs of version 0.1 know a single K.
        self._one_size = _has_one_size(target)
        self._pack, self._graph = loader.load("pack"), loader.load("decode", arena=True)
        self.rows: dict[str, Buffer] = {}
        self._kept: list[int] = []
        bind(self._graph)
        self.select(None)

    def select(self, indices: IndexArray | None) -> None:
        """See Decoder."""
        if indices is None:
            self._bind_rows(self._dense_rows())
            return
        kept = [len(neurons_of(row)) for row in indices]
        if self._one_size and len(set(kept)) > 1:
            raise ArtifactError(
                f"neurons: layers keep from {min(kept)} to {max(kept)}, but the graphs of this "
                "artifact take the same number in all layers; export the model again"
            )
        if kept != self._kept:
            self.rows, self._kept = {}, []  # free the old rows before the new ones are there
            self._bind_rows(self._dense_rows())
            self._pack.unbind()
            self.rows, self._kept = self.allocate_rows(kept), kept
        self._pack.input("ffn_idx", np.ascontiguousarray(indices, np.int32))
        for name, rows in self.rows.items():
            self._pack.output(name, rows)
        self._pack.run()
        self._bind_rows(self.rows)

    def run(self) -> None:
        """See Decoder."""
        self._graph.run()

    def allocate_rows(self, kept: Sequence[int]) -> dict[str, Buffer]:
        """Memory for the rows of so many neurons in each layer."""
        rows = {}
        for spec in self._inputs:
            _, layer = _layer_of(spec)
            shape = [kept[layer] if isinstance(size, str) else size for size in spec.shape]
            rows[spec.name] = Buffer.over(np.empty(shape, np.float32))
        return rows

    def _dense_rows(self) -> dict[str, Buffer]:
        places = {spec.name: _layer_of(spec) for spec in self._inputs}
        return {
            name: self._weights[f"ffn.{layer}.{part}"] for name, (part, layer) in places.items()
        }

    def _bind_rows(self, rows: dict[str, Buffer]) -> None:
        for name, buffer in rows.items():
            self._graph.input(name, buffer)


class SessionDecoder:
    """Integer weights of stock operators have to be constants: every choice has its own session.

    A session lives until another choice is made; that for all neurons is made when it is used.
    """

    def __init__(self, loader: Loader, dims: ModelDims, bind: Bind) -> None:
        self._loader, self._dims, self._bind = loader, dims, bind
        self._chosen: IndexArray | None = None
        self._graph: Graph | None = None

    def select(self, indices: IndexArray | None) -> None:
        """See Decoder."""
        if indices is None:
            if self._chosen is not None:
                self._chosen = self._graph = None
            return
        if self._chosen is not None and np.array_equal(indices, self._chosen):
            return
        self._chosen = self._graph = None  # free the old weights before the new ones are there
        self._graph = self._sparse(indices)
        self._bind(self._graph)
        self._chosen = indices.copy()

    def run(self) -> None:
        """See Decoder."""
        if self._graph is None:
            self._graph = self._loader.load("decode", arena=True)
            self._bind(self._graph)
        self._graph.run()

    def _sparse(self, indices: IndexArray) -> Graph:
        """The decode graph with the weights of the chosen neurons."""
        weights: dict[str, NDArray[Any]] = {}
        attributes: dict[str, Attributes] = {}
        for layer, row in enumerate(indices):
            chosen, ffn = neurons_of(row), f"ffn.{layer}"
            names = [f"{ffn}.{part}" for part in ("gate_up", "up")]
            (first,) = (name for name in names if f"{name}.integers" in self._loader.weights)
            for name in (f"{first}.integers", f"{first}.scales", f"{ffn}.bias"):
                if name in self._loader.weights:
                    weights[name] = self._rows(name, chosen)
            weights |= self._columns(f"{ffn}.down", chosen)
            attributes[f"{first}.integers"] = {"N": len(weights[f"{first}.integers"])}
            attributes[f"{ffn}.down.integers"] = {"K": len(chosen)}
        return self._loader.load_resized("decode", weights, attributes)

    def _rows(self, name: str, chosen: NDArray[np.int32]) -> NDArray[Any]:
        """Chosen rows of gate over up, or of up alone. Shape: [2 F,..] or [F,..] -> 2 K or K."""
        stored, width = self._loader.weights[name].array, self._dims.d_ff
        starts = range(0, len(stored), width)
        rows: NDArray[Any] = stored[np.concatenate([chosen + start for start in starts])]
        return rows

    def _columns(self, name: str, chosen: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """Chosen columns of down: integers [D,blocks,size of a block] and scales [D,blocks].

        The rest of the last block is filled with the zero point. All blocks of a row have one
        scale.
        """
        names = f"{name}.integers", f"{name}.scales"
        integers, scales = (self._loader.weights[key].array for key in names)
        rows, _, size = integers.shape
        columns = np.full((rows, -(-len(chosen) // size) * size), _ZERO_POINT, np.uint8)
        np.take(integers.reshape(rows, -1), chosen, axis=1, out=columns[:, : len(chosen)])
        blocks = columns.reshape(rows, -1, size)
        return {names[0]: blocks, names[1]: np.ascontiguousarray(scales[:, : blocks.shape[1]])}
