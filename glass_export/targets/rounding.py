"""Weights as an integer artifact has them: rounded in memory, or kept rounded in a scratch file.

Legend: N rows, D weights of a row, B bytes of a rounded row.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor, nn

from glass_export.bundles import (
    BundleFormat,
    Bytes,
    FloatArray,
    dequantise_rows,
    pack_down,
    quantise_rows,
    row_bytes,
    unpack_down,
)
from glass_export.errors import ResourceError
from glass_export.graph import Weight
from glass_export.nn.streamed import Matrix, StreamedEmbedding, StreamedLinear, blocks
from glass_export.nn.streamed import with_matrix as with_matrix
from glass_export.nn.streamed import with_weight as with_weight
from glass_export.parallel import for_each
from glass_export.paths import cache_dir


@dataclass(frozen=True, slots=True)
class Codec:
    """How rows [N,D] become bytes [N,B], each row by itself, and what those stand for."""

    encode: Callable[[FloatArray], Bytes]
    decode: Callable[[Bytes], FloatArray]

    def rounded(self, weight: Tensor) -> Tensor:
        """What becomes of a matrix. Shape: [N,D] -> [N,D]."""
        return torch.from_numpy(self.decode(self.encode(_floats(weight))))


def row_codec(depth: int, form: BundleFormat) -> Codec:
    """Rows of linears and embeddings: see bundles.quantise_rows."""
    return Codec(
        lambda rows: quantise_rows(rows, form), lambda stored: dequantise_rows(stored, depth, form)
    )


def down_codec(depth: int, form: BundleFormat) -> Codec:
    """Down rows, one a neuron: see bundles.pack_down."""
    return Codec(
        lambda rows: pack_down(rows, form), lambda stored: unpack_down(stored, depth, form)
    )


def stored_rows(weight: Weight, form: BundleFormat) -> Bytes:
    """The bytes of a weight's rows; leading dimensions become one. Shape: [..,D] -> [N,B]."""
    count, depth = math.prod(weight.shape[:-1]), weight.shape[-1]
    stored, first = np.empty((count, row_bytes(depth, form)), np.uint8), 0
    for block in weight.blocks():
        rows = quantise_rows(_floats(block.reshape(-1, depth)), form)
        stored[first : first + len(rows)] = rows
        first += len(rows)
    return stored


class RoundedRows:
    """A Matrix of rounded rows in a scratch file, where they take as little as in an artifact.

    Args:
        exact: The weights; they are read once, now.
        codec: How they are rounded.
        scratch: See scratch_file; the rows are appended to it.

    Raises:
        ResourceError: it cannot be written, as when the disk is full.
    """

    def __init__(self, exact: Matrix, codec: Codec, scratch: BinaryIO) -> None:
        self.shape = exact.shape
        self._decode, self._scratch = codec.decode, scratch
        self._offset = scratch.seek(0, os.SEEK_END)
        for first, end in blocks(exact.shape):
            _append(scratch, codec.encode(exact.rows(first, end).numpy()))
        self._row_bytes = (scratch.tell() - self._offset) // self.shape[0]

    def rows(self, start: int, stop: int) -> Tensor:
        """See Matrix."""
        out = np.empty((stop - start, self.shape[1]), np.float32)
        step = -(-len(out) // torch.get_num_threads())

        def read(first: int) -> None:
            part = out[first : first + step]
            size, offset = len(part) * self._row_bytes, (start + first) * self._row_bytes
            raw = os.pread(self._scratch.fileno(), size, self._offset + offset)
            part[:] = self._decode(np.frombuffer(raw, np.uint8).reshape(len(part), -1))

        for_each(read, range(0, len(out), step), torch.get_num_threads())
        return torch.from_numpy(out)


class Transposed:
    """A Matrix [N,D] seen as [D,N]. All of it is in memory as long as this is."""

    def __init__(self, matrix: Matrix) -> None:
        self._whole = matrix.rows(0, matrix.shape[0]).T
        self.shape = tuple(self._whole.shape)

    def rows(self, start: int, stop: int) -> Tensor:
        """See Matrix."""
        return self._whole[start:stop].contiguous()


def rounded(layer: nn.Module, codec: Codec, scratch: BinaryIO) -> nn.Module:
    """A linear or embedding with rounded weights; of a streamed one they go into ``scratch``."""
    if isinstance(layer, (StreamedLinear, StreamedEmbedding)):
        return with_matrix(layer, RoundedRows(layer.matrix, codec, scratch))
    return with_weight(layer, codec.rounded(layer.get_parameter("weight")))


def with_weight_of(layer: nn.Module, other: nn.Module) -> nn.Module:
    """A shallow copy of a layer that has the weight of another one: the two are tied."""
    if isinstance(layer, (StreamedLinear, StreamedEmbedding)):
        matrix: Matrix = getattr(other, "matrix")  # noqa: B009  # streamed, as ``layer`` is
        return with_matrix(layer, matrix)
    return with_weight(layer, other.get_parameter("weight"))


@contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """An unbuffered file without a name in the cache directory, gone when the block ends."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_dir(), buffering=0) as file:
        yield cast(BinaryIO, file)


def _append(scratch: BinaryIO, rows: Bytes) -> None:
    left = np.ascontiguousarray(rows).reshape(-1).data
    try:
        while left:
            left = left[scratch.write(left) :]
    except OSError as problem:
        raise ResourceError(
            f"rounded weights: cannot be written to {cache_dir()} ({problem}); free some space "
            "there, or set GLASS_EXPORT_CACHE to a folder on another disk"
        ) from problem


def _floats(weight: Tensor) -> FloatArray:
    return weight.detach().float().contiguous().numpy()
