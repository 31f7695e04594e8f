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
from glass_export.spec import ModelDims

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
        return RowDecoder(loader, dims, bind, one_size=_has_one_size(target))
    return SessionDecoder(loader, dims, bind)


def _has_one_size(target: TargetInfo) -> bool:
    """Whether the inputs of decode share one symbol for the kept neurons of all layers."""
    inputs = target.signatures["decode"].inputs
    rows = [spec.shape[0] for spec in inputs if spec.name.startswith("down.")]
    return len(set(rows)) < len(rows)


def neurons_of(row: NDArray[np.int32]) -> NDArray[np.int32]:
    """The neurons of a row without its padding, -1."""
    return row[row >= 0]


class BundleDecoder:
    """The project's operators read the chosen neurons in place: nothing is packed."""

    def __init__(self, loader: Loader, dims: ModelDims, bind: Bind) -> None:
        self._graph = loader.load("decode", arena=True)
        bind(self._graph)
        self._every = np.tile(np.arange(dims.d_ff, dtype=np.int32), (dims.layers, 1))
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

    def __init__(self, loader: Loader, dims: ModelDims, bind: Bind, *, one_size: bool) -> None:
        """``one_size``: the graphs know a single K, as those of version 0.1 do."""
        self._dims, self._weights, self._one_size = dims, loader.weights, one_size
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
        width = self._dims.d_model
        return {
            f"{part}.{layer}": Buffer.over(np.empty(shape, np.float32))
            for layer, size in enumerate(kept)
            for part, shape in (("gate_up", (2, size, width)), ("down", (size, width)))
        }

    def _dense_rows(self) -> dict[str, Buffer]:
        return {
            f"{part}.{layer}": self._weights[f"ffn.{layer}.{part}"]
            for layer in range(self._dims.layers)
            for part in ("gate_up", "down")
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
            chosen = neurons_of(row)
            gate_up, down = f"ffn.{layer}.gate_up", f"ffn.{layer}.down"
            for name in (f"{gate_up}.integers", f"{gate_up}.scales"):
                weights[name] = self._rows(name, chosen)
            weights |= self._columns(down, chosen)
            attributes[f"{gate_up}.integers"] = {"N": 2 * len(chosen)}
            attributes[f"{down}.integers"] = {"K": len(chosen)}
        return self._loader.load_resized("decode", weights, attributes)

    def _rows(self, name: str, chosen: NDArray[np.int32]) -> NDArray[Any]:
        """Chosen rows of gate over up. Shape: [2 F,..] -> [2 K,..]."""
        stored = self._loader.weights[name].array
        rows: NDArray[Any] = stored[np.concatenate([chosen, chosen + self._dims.d_ff])]
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
