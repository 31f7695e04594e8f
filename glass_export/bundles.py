"""Integer neuron bundles: how FFN weights become int8 or int4 bytes, and back. NumPy reference.

Legend: F FFN width, D model width, G = D / 32 groups of a row.

A row of D weights is cut into groups of 32. Each has a float16 scale s and integers q with
w = s q: -127..127 for int8, -8..7 for int4. What is stored is q + 128 or q + 8, an unsigned number.
One neuron's bundle is one run of bytes, padded with zeros to whole cache lines of 64:

    gate integers | up integers | down integers | gate scales | up scales | down scales | padding

A row's int8 integers lie in order. A group's int4 integers take 16 bytes: byte i holds weight i in
its low nibble and weight i + 16 in its high one.

Source: docs/adr/0012-integer-bundles.md; the native core is glass_export/csrc/src/kernels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import LoweringError

BundleFormat = Literal["int8", "int4"]
Bytes = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

GROUP = 32
LINE = 64
_LARGEST = {"int8": 127, "int4": 7}
_SMALLEST = {"int8": -127, "int4": -8}
# What the largest weight of an int4 group may become. A negative one makes -8 of a positive weight.
_INT4_DIVISORS = (-8.0, 7.0, -7.5, 7.5, -8.5, 8.0)


def bundle_bytes(d_model: int, form: BundleFormat) -> int:
    """Bytes of one neuron's bundle, padding included.

    Raises:
        LoweringError: D is not a positive multiple of 32.
    """
    if d_model <= 0 or d_model % GROUP:
        raise LoweringError(
            f"{form} weights: expected a model width that is a multiple of {GROUP}, got {d_model}; "
            "use float32 weights"
        )
    row = d_model if form == "int8" else d_model // 2
    return -(-3 * (row + 2 * (d_model // GROUP)) // LINE) * LINE


def quantise(weights: FloatArray, form: BundleFormat) -> Bytes:
    """Bytes of the bundles; of int4 the scale with the least squared error of a few is taken.

    Shape: [F,3,D] -> [F,bundle_bytes].

    Raises:
        LoweringError: a wrong shape, a weight that is not finite or too large for a float16 scale.
    """
    if weights.ndim != 3 or weights.shape[1] != 3:
        raise LoweringError(f"{form} weights: expected bundles [F,3,D], got {weights.shape}")
    count, _, d_model = weights.shape
    size = bundle_bytes(d_model, form)
    groups = weights.astype(np.float32).reshape(count, 3, d_model // GROUP, GROUP)
    scales = _scales(groups, form)
    shifted = _integers(groups, scales, form) + (128 if form == "int8" else 8)
    if form == "int4":
        shifted = shifted[..., : GROUP // 2] + 16 * shifted[..., GROUP // 2 :]
    stored = shifted.astype(np.uint8)
    parts = stored.reshape(count, -1), scales.astype("<f2").reshape(count, -1).view(np.uint8)
    padding = np.zeros((count, size - sum(part.shape[1] for part in parts)), np.uint8)
    return np.concatenate([*parts, padding], axis=1)


def dequantise(bundles: Bytes, d_model: int, form: BundleFormat) -> FloatArray:
    """The weights that the bytes stand for.

    Shape: [F,bundle_bytes] -> [F,3,D].

    Raises:
        LoweringError: the bundles are of another size.
    """
    size = bundle_bytes(d_model, form)
    if bundles.dtype != np.uint8 or bundles.ndim != 2 or bundles.shape[1] != size:
        raise LoweringError(
            f"{form} bundles: expected uint8 [F,{size}], got {bundles.dtype} {bundles.shape}"
        )
    count, groups = len(bundles), d_model // GROUP
    row = d_model if form == "int8" else d_model // 2
    stored: Bytes = bundles[:, : 3 * row].reshape(count, 3, groups, -1)
    if form == "int4":
        stored = np.concatenate([stored & 15, stored >> 4], axis=-1)
    scale_bytes = np.ascontiguousarray(bundles[:, 3 * row : 3 * row + 6 * groups])
    scales = scale_bytes.view("<f2").astype(np.float32).reshape(count, 3, groups, 1)
    integers = stored.astype(np.float32) - np.float32(128 if form == "int8" else 8)
    return (scales * integers).reshape(count, 3, d_model)


def quantise_tokens(x: FloatArray) -> FloatArray:
    """What the kernels take x for: int8 with a scale, max / 127, for each 32 values of a token.

    Shape: [S,D] -> [S,D]. Rounds half to even, as the kernels do.
    """
    groups = x.astype(np.float32).reshape(len(x), -1, GROUP)
    largest = np.abs(groups).max(-1, keepdims=True)
    # As the kernels: the inverse of smaller values could be infinite.
    some = largest > np.float32(1e-30)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=some)
    scales = np.where(some, largest / np.float32(127), np.float32(0))
    meant: FloatArray = np.rint(groups * inverse) * scales
    return meant.reshape(x.shape)


def _scales(groups: FloatArray, form: BundleFormat) -> NDArray[np.float16]:
    """Scales [F,3,G,1] of groups [F,3,G,32]."""
    first = np.abs(groups).argmax(-1)[..., None]
    extreme = np.take_along_axis(groups, first, -1)
    limit = float(np.finfo(np.float16).max) * _LARGEST[form]
    if not np.isfinite(groups).all() or (np.abs(extreme) > limit).any():
        raise LoweringError(
            f"{form} weights: expected finite numbers of at most {limit:.0f}; use float32 weights"
        )
    if form == "int8":
        return (np.abs(extreme) / np.float32(127)).astype(np.float16)
    best = np.zeros(extreme.shape, np.float16)
    least = np.full(extreme.shape, np.inf, np.float32)
    for divisor in _INT4_DIVISORS:
        # + 0 so that no scale is -0.0.
        scales = (extreme / np.float32(divisor)).astype(np.float16) + np.float16(0)
        rounded = _integers(groups, scales, form) * scales.astype(np.float32)
        error = np.square(groups - rounded).sum(-1, keepdims=True)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best


def _integers(
    groups: FloatArray, scales: NDArray[np.float16], form: BundleFormat
) -> NDArray[np.int32]:
    """The nearest integers [F,3,G,32]; 0 where the scale is."""
    exact = scales.astype(np.float32)
    quotients = np.divide(groups, exact, out=np.zeros_like(groups), where=exact != 0)
    return np.clip(np.rint(quotients), _SMALLEST[form], _LARGEST[form]).astype(np.int32)
