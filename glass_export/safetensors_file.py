"""Tensors of safetensors files, read as float32 when they are asked for, whole or row by row.

A file's bytes are read, not mapped: what a map has touched counts as memory of the process, and
stays until the system needs it. Legend: N rows, D weights of a row.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glass_export.errors import SourceError
from glass_export.parallel import for_each

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_PIECE = 1 << 18
"""Elements converted at a time."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A floating-point tensor in a file; ``offset``: of its first byte; ``dtype``: as stored."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    _checked: set[int] = field(default_factory=set, compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return math.prod(self.shape) * np.dtype(_FLOATS[self.dtype]).itemsize

    def load(self) -> Tensor:
        """All of it as float32.

        Raises:
            SourceError: NaN or infinity, or the file ended early.
        """
        return self._read(0, math.prod(self.shape)).reshape(self.shape)

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix as float32 [stop-start,D]; errors as ``load``."""
        depth = self.shape[1]
        return self._read(start * depth, stop * depth).reshape(-1, depth)

    def _read(self, start: int, stop: int) -> Tensor:
        """Elements ``start`` to ``stop``. The first time, it is checked that all are finite."""
        stored = np.dtype(_FLOATS[self.dtype])
        out = np.empty(stop - start, np.float32)
        with self.path.open("rb", buffering=0) as file:
            descriptor = file.fileno()

            def convert(begin: int) -> None:
                piece, place = out[begin : begin + _PIECE], start + begin
                wanted = piece.size * stored.itemsize
                raw = os.pread(descriptor, wanted, self.offset + place * stored.itemsize)
                if len(raw) != wanted:
                    raise SourceError(f"{self.path}: ended within {self.name}; download it again")
                if self.dtype == "BF16":  # the upper half of a float32
                    bits = np.frombuffer(raw, stored)
                    np.left_shift(bits, 16, out=piece.view(np.uint32), dtype=np.uint32)
                else:
                    piece[:] = np.frombuffer(raw, stored)
                if place not in self._checked:
                    self._require_finite(piece)
                    self._checked.add(place)

            for_each(convert, range(0, out.size, _PIECE), torch.get_num_threads())
        return torch.from_numpy(out)

    def _require_finite(self, piece: np.ndarray) -> None:
        if not np.isfinite(piece).all():
            raise SourceError(
                f"{self.path}: {self.name} holds NaN or infinity, so the file is damaged; "
                "download it again"
            )


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The floating-point tensors of a safetensors file by name. Only its header is read.

    Others are index buffers, which transformers computes itself.

    Raises:
        SourceError: it is not a safetensors file, or not a whole one.
    """
    try:
        with safe_open(path, framework="np") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as problem:
        reason = str(problem).splitlines()[0][:200]
        raise SourceError(
            f"{path}: damaged or truncated ({reason}); download it again"
        ) from problem
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        base = file.tell()
    return {
        name: StoredTensor(
            path, name, tuple(entry["shape"]), entry["dtype"], base + entry["data_offsets"][0]
        )
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] in _FLOATS
    }
