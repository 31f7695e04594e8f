"""One weights file that all graphs of an artifact share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from glass_export.graph import Weight
from glass_export.log import Task
from glass_export.manifest import TensorEntry

ALIGNMENT = 4096
"""Bytes: a memory page, so that runtimes can map every tensor in place."""


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

    def add(self, weight: Weight) -> ir.ExternalTensor:
        """The external tensor of a weight; its data is written on first use."""
        if weight.name not in self.entries:
            array = weight.load().to(torch.float32).contiguous().numpy()
            self._write(weight.name, array)
        return self._external(self.entries[weight.name])

    def add_array(self, name: str, array: NDArray[np.float32]) -> ir.ExternalTensor:
        """The same for an array that is at hand."""
        if name not in self.entries:
            self._write(name, array)
        return self._external(self.entries[name])

    def _write(self, name: str, array: NDArray[np.float32]) -> None:
        offset = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
        self._file.seek(offset)
        data = np.ascontiguousarray(array)
        self._file.write(data.data)
        self.entries[name] = TensorEntry(
            name=name, dtype="float32", shape=array.shape, offset=offset, nbytes=data.nbytes
        )
        self._task.advance(data.nbytes)

    def _external(self, entry: TensorEntry) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            os.fspath(self.path.name),
            entry.offset,
            entry.nbytes,
            ir.DataType.FLOAT,
            shape=ir.Shape(entry.shape),
            name=entry.name,
            base_dir=self.path.parent,
        )
