"""One weights file that all graphs of an artifact share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from glass_export.log import Task
from glass_export.manifest import TensorEntry

ALIGNMENT = 4096
"""Bytes: a memory page, so that runtimes can map every tensor in place."""

Arrays = Mapping[str, NDArray[Any]]


class WeightFile:
    """Writes each named tensor once, page-aligned, one at a time."""

    def __init__(self, path: Path, task: Task) -> None:
        self.path = path
        self.entries: dict[str, TensorEntry] = {}
        self._file = path.open("wb")
        self._task = task

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, count: int, make: Callable[[], Arrays]) -> None:
        """Write the tensors that ``make`` gives, unless ``name``, one of them, is there already.

        Args:
            name: The first of the tensors.
            count: Weights that they hold, for the progress bar.
            make: Computes the tensors by name.
        """
        if name in self.entries:
            return
        for key, array in make().items():
            self._write(key, array)
        self._task.advance(count)

    def add_view(self, name: str, of: str, shape: tuple[int, ...]) -> None:
        """Give the bytes of the tensor ``of`` another name and shape."""
        whole = self.entries[of]
        self.entries[name] = TensorEntry(
            name=name, dtype=whole.dtype, shape=shape, offset=whole.offset, nbytes=whole.nbytes
        )

    def external(self, name: str) -> ir.ExternalTensor:
        """A tensor that has been added, as graphs refer to it."""
        entry = self.entries[name]
        return ir.ExternalTensor(
            os.fspath(self.path.name),
            entry.offset,
            entry.nbytes,
            ir.DataType.from_numpy(np.dtype(entry.dtype)),
            shape=ir.Shape(entry.shape),
            name=entry.name,
            base_dir=self.path.parent,
        )

    def _write(self, name: str, array: NDArray[Any]) -> None:
        offset = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
        self._file.seek(offset)
        data = np.ascontiguousarray(array)
        self._file.write(data.data)
        self.entries[name] = TensorEntry(
            name=name, dtype=data.dtype.name, shape=data.shape, offset=offset, nbytes=data.nbytes
        )
