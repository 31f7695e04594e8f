"""Integer weights as ``MatMulNBits`` of ONNX Runtime stores them.

Legend: N output width, D input width of a matrix, F FFN width.

A row of a matrix is cut into blocks with a float32 scale each; integers are stored unsigned, with
the zero point 8 or 128. int4: byte i of a block holds weight 2i in its low nibble and 2i + 1 in its
high one. Rows get the integers and scales of :mod:`glass_export.bundles`, whose order differs.

Source: ONNX Runtime, docs/ContribOperators.md, com.microsoft.MatMulNBits; docs/adr/0014.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_export.bundles import GROUP, BundleFormat, Bytes, FloatArray, row_bytes

BITS = {"int4": 4, "int8": 8}
CHANNEL_BLOCK = 128
"""Neurons in a block of a matrix that is quantised by channels. All blocks of a row have one scale,
so this only sets in which steps the matrix product rounds its input."""


def nbits_row_bytes(depth: int, form: BundleFormat) -> int:
    """Bytes of a row of D weights: its integers, and a float32 scale for each 32 of them.

    Raises:
        LoweringError: D is not a positive multiple of 32.
    """
    return row_bytes(depth, form) + 2 * (depth // GROUP)


def repack_rows(rows: Bytes, form: BundleFormat) -> tuple[Bytes, FloatArray]:
    """Rows of ``bundles.quantise_rows`` in the order of MatMulNBits.

    Shape: [N,row_bytes] -> integers [N,D/32,bytes of 32 weights], scales [N,D/32].
    """
    group = GROUP * BITS[form] // 8
    groups = rows.shape[1] // (group + 2)
    integers = rows[:, : groups * group].reshape(len(rows), groups, group)
    scales = np.ascontiguousarray(rows[:, groups * group :]).view("<f2").astype(np.float32)
    return (_interleave(integers) if form == "int4" else integers), scales


def quantise_channels(weight: FloatArray) -> tuple[Bytes, FloatArray]:
    """int8 with one scale, max / 127, for each row; padded with zeros to whole blocks.

    Any choice of columns has the same integers and scales as the whole.

    Shape: [D,F] -> integers [D,ceil(F/128),128], scales [D,1].
    """
    largest = np.abs(weight).max(1, keepdims=True)
    scales = (largest / np.float32(127)).astype(np.float32)
    quotients = np.divide(weight, scales, out=np.zeros_like(weight), where=scales != 0)
    integers = (np.rint(quotients) + 128).astype(np.uint8)
    return channel_blocks(integers), scales


def channel_blocks(integers: Bytes) -> Bytes:
    """Rows cut into blocks, the last one filled with the zero point.

    Shape: [D,F] -> [D,ceil(F/128),128].
    """
    missing = -integers.shape[1] % CHANNEL_BLOCK
    padded = np.pad(integers, ((0, 0), (0, missing)), constant_values=128)
    return padded.reshape(len(integers), -1, CHANNEL_BLOCK)


def dequantise_channels(integers: Bytes, scales: FloatArray, width: int) -> FloatArray:
    """The weights that :func:`quantise_channels` stands for.

    Shape: integers [D,ceil(F/128),128], scales [D,1] -> [D,F].
    """
    flat = integers.reshape(len(integers), -1)[:, :width]
    restored: FloatArray = (flat.astype(np.float32) - 128) * scales
    return restored


def _interleave(integers: NDArray[Any]) -> Bytes:
    """Groups of 16 bytes, (w[i], w[i + 16]) in byte i -> (w[2 i], w[2 i + 1]) in byte i."""
    even, odd = integers[..., 0::2], integers[..., 1::2]
    low = (even & 15) | (odd << 4)
    high = (even >> 4) | (odd & 0xF0)
    return np.concatenate([low, high], axis=-1)
