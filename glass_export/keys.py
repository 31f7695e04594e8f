"""Unsigned keys in the order of the scores, and what is chosen by them. As csrc/src/keys.h.

No result depends on how a processor compares floats, nor on the algorithm of a sort. Legend: L
layers, F FFN width, K kept neurons.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import GenerationError

IndexArray = NDArray[np.int32]
KeyArray = NDArray[np.uint32]

_SIGN, _MAGNITUDE, _INFINITY = np.uint32(1 << 31), np.uint32((1 << 31) - 1), 0x7F800000


def keys_of(scores: NDArray[np.generic]) -> KeyArray:
    """Keys [L,F] of finite float32 scores; +0.0 and -0.0 have the same. uint32 are keys already.

    Raises:
        GenerationError: a score is NaN or infinite, or the shape is not [L,F].
    """
    if scores.ndim != 2 or scores.size == 0:
        raise GenerationError(f"scores: got shape {list(scores.shape)}, expected [L,F], not empty")
    if scores.dtype == np.uint32:
        return np.asarray(scores, np.uint32)
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    if bits.max() < _INFINITY:  # finite and not negative: the bits are in order already
        return bits
    magnitude = bits & _MAGNITUDE
    if magnitude.max() >= _INFINITY:
        layer = int(np.argmax((magnitude >= _INFINITY).any(axis=1)))
        raise GenerationError(
            f"scores: layer {layer} holds NaN or infinity, expected finite numbers; "
            "the prior or the model's weights are damaged: export the model again"
        )
    return np.where(bits == magnitude, _SIGN + magnitude, _SIGN - magnitude)


def rank_keys(keys: KeyArray) -> IndexArray:
    """Ranks 0..F-1 of each row of keys, larger for larger keys, ties to the lower index: [L,F]."""
    backwards = keys[:, ::-1]  # of equal keys the higher index comes first
    upper, lower = _halves(backwards)
    rising = np.arange(keys.shape[1], dtype=np.int32)
    out = np.empty(keys.shape, np.int32)
    for layer, row in enumerate(out[:, ::-1]):  # radix sort of 32 bits by two stable sorts of 16
        by_lower = lower[layer].argsort(kind="stable")
        by_key = upper[layer][by_lower].argsort(kind="stable")
        row[by_lower[by_key]] = rising
    return out


def top_k_keys(keys: KeyArray, counts: Sequence[int]) -> IndexArray:
    """Indices of the ``counts[l]`` largest keys of each row, ties to the lower index.

    Args:
        keys: Of :func:`keys_of` [L,F].
        counts: L numbers of 1 to F.

    Returns:
        int32 [L,K] with the largest of the numbers; rows are ascending and end in -1.
    """
    out = np.full((len(keys), max(counts)), -1, np.int32)
    for row, count, layer, upper in zip(out, counts, keys, _halves(keys)[0], strict=True):
        row[:count] = _top_k_row(layer, np.ascontiguousarray(upper), count)
    return out


def _top_k_row(keys: KeyArray, upper: NDArray[np.uint16], k: int) -> NDArray[np.int64]:
    """Find the upper half of the K-th key by a 16-bit radix sort, then look closer at that edge."""
    edge_value = np.sort(upper, kind="stable")[keys.size - k]
    chosen = upper > edge_value
    edge = np.flatnonzero(upper == edge_value)
    falling = (~keys[edge]).argsort(kind="stable")
    chosen[edge[falling[: k - np.count_nonzero(chosen)]]] = True
    return np.flatnonzero(chosen)


def _halves(keys: KeyArray) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Views of the upper and the lower 16 bits of [L,F] keys."""
    pairs = keys[..., np.newaxis].view(np.uint16)
    upper, lower = pairs[..., 1], pairs[..., 0]
    return (upper, lower) if sys.byteorder == "little" else (lower, upper)
