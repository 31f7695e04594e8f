"""Reading GGUF files: metadata and tensor table, checked, and tensors dequantised piece by piece.

Pieces keep the memory low: neither the file nor a whole quantised tensor is ever held.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from glass_export.errors import SourceError

_SCALARS = dict(
    zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
)  # GGUF value type -> struct code
_STRING, _ARRAY = 8, 9
_LONG = 4096  # longer arrays are vocabulary tables, which are not needed here
_PIECE = 1 << 18  # elements dequantised at a time: 1 MB of floats, which fits a core's cache


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where one tensor lies, in bytes; ``shape`` is in PyTorch's order."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def bits(self) -> float:
        """Stored bits of one weight."""
        elements, nbytes = GGML_QUANT_SIZES[self.type]
        return 8 * nbytes / elements


@dataclass(frozen=True, slots=True)
class GgufFile:
    """An open description of a GGUF file; of long arrays in the metadata, only the length."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Read and check everything but the weights themselves.

        Raises:
            SourceError: not a GGUF file, of an unknown version, damaged or truncated.
        """
        try:
            with path.open("rb") as file:
                magic = file.read(4)
                if magic != b"GGUF":
                    raise SourceError(
                        f"{path.name}: not a GGUF file: it begins with {magic!r}, expected "
                        "b'GGUF'; download it again"
                    )
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _parse(path, data)
        except (struct.error, IndexError, UnicodeDecodeError, ValueError, OverflowError) as problem:
            raise SourceError(
                f"{path.name}: the header is damaged or truncated ({problem}); download it again"
            ) from problem

    def read(self, name: str, *, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Dequantise the rows ``start`` to ``stop`` (of the first dimension) of a tensor.

        Raises:
            SourceError: the tensor holds NaN or infinity, or the file ended early.
        """
        tensor = self.tensors[name]
        stop = tensor.shape[0] if stop is None else stop
        out = np.empty((stop - start, *tensor.shape[1:]), np.float32)
        flat = out.reshape(-1)
        block, block_bytes = GGML_QUANT_SIZES[tensor.type]
        with self.path.open("rb") as file:
            file.seek(tensor.offset + start * (tensor.nbytes // tensor.shape[0]))
            for begin in range(0, flat.size, _PIECE):
                piece = flat[begin : begin + _PIECE]
                self._dequantise(tensor, file.read(piece.size // block * block_bytes), piece)
        return out

    def _dequantise(self, tensor: GgufTensor, raw: bytes, piece: NDArray[np.float32]) -> None:
        with np.errstate(all="ignore"):  # what is not finite is found below
            try:
                piece[:] = dequantize(np.frombuffer(raw, np.uint8)[None], tensor.type).reshape(-1)
            except NotImplementedError as problem:
                raise SourceError(
                    f"{self.path.name}: {tensor.name} is stored as {tensor.type.name}, which "
                    "cannot be read here; give a GGUF of another quantisation"
                ) from problem
            except ValueError as problem:
                raise SourceError(
                    f"{self.path.name}: {tensor.name} ends early; download the file again"
                ) from problem
        if not np.isfinite(piece).all():
            raise SourceError(
                f"{self.path.name}: {tensor.name} holds NaN or infinity, so the file is damaged; "
                "download it again"
            )


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 4

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.position)
        self.position += struct.calcsize(code)
        return value

    def text(self) -> str:
        begin = self.skip(self.number("Q"))
        return self.data[begin : self.position].decode()

    def skip(self, count: int) -> int:
        """Move over ``count`` bytes; returns where they begin."""
        begin = self.position
        if count > len(self.data) - begin:
            raise ValueError(f"{count} bytes expected at {begin}, {len(self.data) - begin} left")
        self.position += count
        return begin

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise ValueError(f"unknown value type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            raise ValueError("an array of arrays")
        if count <= _LONG:
            return [self.value(kind) for _ in range(count)]
        if kind == _STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        elif kind in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise ValueError(f"unknown value type {kind}")
        return int(count)


def _parse(path: Path, data: mmap.mmap) -> GgufFile:
    cursor = _Cursor(data)
    version = cursor.number("I")
    if version not in (2, 3):
        raise SourceError(
            f"{path.name}: GGUF version {version if version < 1 << 16 else 'big-endian'}, expected "
            "2 or 3; convert the model again with a current llama.cpp"
        )
    tensor_count, metadata_count = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(metadata_count):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.number("I"))
    entries = [_tensor(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"alignment {alignment!r}")
    base = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, kind, shape, offset, nbytes in entries:
        tensors[name] = GgufTensor(name, kind, shape, base + offset, nbytes)
        if (needed := base + offset + nbytes) > len(data):
            raise SourceError(
                f"{path.name}: truncated: it has {len(data)} bytes, {name} alone needs {needed}; "
                "download it again"
            )
    return GgufFile(path, metadata, tensors)


def _tensor(cursor: _Cursor) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int, int]:
    name = cursor.text()
    dimensions = cursor.number("I")
    if not 1 <= dimensions <= 4:
        raise ValueError(f"{name} has {dimensions} dimensions")
    shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
    kind = GGMLQuantizationType(cursor.number("I"))
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if min(shape) < 1 or shape[-1] % block:
        raise ValueError(f"{name} has shape {shape}, expected rows of whole blocks of {block}")
    return name, kind, shape, cursor.number("Q"), math.prod(shape) // block * block_bytes
