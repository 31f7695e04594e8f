"""Constants of a program that are computed when its file is written, one at a time.

ExecuTorch's emitter copies every constant into memory beside the tensor, hashes it, and writes all
of them at the end. Here a method is traced with a stand-in, memory of the right size that nobody
touches and the system therefore never provides; the emitter is handed a promise in its place, and
the data pass through memory only on their way to the file. Constants are told apart by their
weights' names instead of by a hash.

Depends on two internals of executorch 1.5.1, which pyproject.toml pins: ``_Emitter`` and ``Cord``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from executorch.exir._serialize._cord import FileBackedData
from executorch.exir.emit._emitter import EValue, _Emitter, make_tensor_value
from torch import Tensor

from glass_export.bundles import Bytes
from glass_export.errors import LoweringError
from glass_export.graph import Weight


def untouched_zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros that take no memory until they are written to."""
    size = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).reshape(shape)


class ConstantStore:
    """Weights of a program by name, so that its methods share them."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._deferred: dict[int, Weight] = {}

    def load(self, weight: Weight) -> Tensor:
        """The weight's data, loaded on first use."""
        if weight.name not in self._tensors:
            self._tensors[weight.name] = weight.load().detach().contiguous()
        return self._tensors[weight.name]

    def defer(self, weight: Weight) -> Tensor:
        """A stand-in for a weight whose data only the program's file needs."""
        if weight.name not in self._tensors:
            tensor = untouched_zeros(weight.shape, weight.dtype)
            self._tensors[weight.name] = tensor
            self._deferred[tensor.data_ptr()] = weight
        return self._tensors[weight.name]

    @contextmanager
    def emission(self) -> Iterator[None]:
        """Inside the block ExecuTorch emits promises for the weights that are deferred.

        Raises:
            LoweringError: a weight did not reach the emitter: it has been copied on the way.
        """
        emit, met = _Emitter._tensor_spec_to_evalue, set[str]()

        def to_evalue(emitter: Any, spec: Any, constant_tag: str | None = None) -> Any:
            place = spec.storage.data_ptr() if spec.const and spec.storage is not None else 0
            weight = self._deferred.get(place)
            if weight is None:
                return emit(emitter, spec, constant_tag)
            met.add(weight.name)
            known = emitter.program_state.cached_spec_hash_values
            if weight.name not in known:
                emitter._save_new_const_tensor(spec, _Promise(weight), weight.name)
            return EValue(make_tensor_value(known[weight.name], None, spec))

        with patch.object(_Emitter, "_tensor_spec_to_evalue", to_evalue):
            yield
        lost = sorted({weight.name for weight in self._deferred.values()} - met)
        if lost:
            raise LoweringError(
                f"ExecuTorch did not emit {len(lost)} of the weights ({', '.join(lost[:3])}); "
                "use the versions of executorch and torch that glass-export asks for"
            )


class _Promise(FileBackedData):  # type: ignore[misc]  # executorch has no types
    """The bytes of a weight, as the writer of programs takes data that are not in memory."""

    def __init__(self, weight: Weight) -> None:
        self._weight = weight
        self._finalizer = None

    def __len__(self) -> int:
        return math.prod(self._weight.shape) * self._weight.dtype.itemsize

    def __deepcopy__(self, memo: object) -> _Promise:
        return self

    def to_bytes(self) -> bytes:
        return self._data().tobytes()

    def write_to_file(self, outfile: io.BufferedIOBase) -> None:
        outfile.write(self._data().data)

    def _data(self) -> Bytes:
        """All bytes, one after the other."""
        tensor = self._weight.load().detach().contiguous()
        content: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
        if len(content) != len(self):
            raise LoweringError(
                f"{self._weight.name}: got {len(content)} bytes, expected {len(self)}"
            )
        return content
