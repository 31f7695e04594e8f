"""FFN bundles and rows of int8 or int4 weights: their bytes, and back. NumPy reference.

Legend: F FFN width, D model width or depth of a linear layer, N its rows, G = D / 32 groups of a
row.

A row of D weights is cut into groups of 32. Each has a float16 scale s and integers q with
w = s q: -127..127 for int8, -8..7 for int4. What is stored is q + 128 or q + 8, an unsigned number.
A row's int8 integers lie in order. A group's int4 integers take 16 bytes: byte i holds weight i in
its low nibble, weight i + 16 in its high one.

A row of a linear layer or an embedding is one run of bytes without padding:

    integers | scales

One neuron's bundle is one too, padded with zeros to whole cache lines of 64:

    gate integers | up integers | down integers | gate scales | up scales | down scales |
    outliers of down | padding

A plain FFN has no gate, and its bundles neither; biases are no part of them. In the shapes below R
stands for the rows of a neuron: 3, or 2 where the FFN is plain.

A few weights of the down row, OUTLIERS of them, are stored apart: the column (uint16) and the
weight (float16) of each. In its group such a weight counts as 0, so that the scale is that of the
others; the two are added. A column of D or more stands for no weight.

Source: docs/adr/0012-integer-bundles.md; the native core is glass_export/csrc/src/kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import LoweringError

BundleFormat = Literal["int8", "int4"]
Bytes = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

GROUP = 32
LINE = 64
# Weights of a down row that are stored apart.
OUTLIERS = 1
_OUTLIER = np.dtype([("column", "<u2"), ("weight", "<f2")])
_OUTLIER_BYTES = OUTLIERS * _OUTLIER.itemsize
# As many columns as the number of one can tell apart.
_WIDEST = 1 << 16
# Weights that are quantised at a time.
_BLOCK = 1 << 17
_LARGEST = {"int8": 127, "int4": 7}
_SMALLEST = {"int8": -127, "int4": -8}
_OFFSET = {"int8": np.float32(128), "int4": np.float32(8)}
# What the largest weight of an int4 group may become. A negative one makes -8 of a positive weight.
_INT4_DIVISORS = (-8.0, 7.0, -7.5, 7.5, -8.5, 8.0)


def row_bytes(depth: int, form: BundleFormat) -> int:
    """Bytes of one row of D weights.

    Raises:
        LoweringError: D is not a positive multiple of 32.
    """
    if depth <= 0 or depth % GROUP:
        raise LoweringError(
            f"{form} weights: expected a width that is a multiple of {GROUP}, got {depth}; "
            "use float32 weights"
        )
    return _integer_bytes(depth, form) + 2 * (depth // GROUP)


def bundle_bytes(d_model: int, form: BundleFormat, *, gated: bool = True) -> int:
    """Bytes of one neuron's bundle, padding included.

    Raises:
        LoweringError: D is not a positive multiple of 32, or more than 65536.
    """
    if d_model > _WIDEST:
        raise LoweringError(
            f"{form} weights: expected a model width of at most {_WIDEST}, got {d_model}; "
            "use float32 weights"
        )
    size = _rows(gated) * row_bytes(d_model, form) + _OUTLIER_BYTES
    return -(-size // LINE) * LINE


def quantise(weights: FloatArray, form: BundleFormat) -> Bytes:
    """Bytes of the bundles; of int4 the scale with the least squared error of a few is taken.

    Shape: [F,R,D] -> [F,bundle_bytes].

    Raises:
        LoweringError: a wrong shape, a weight that is not finite or too large for a float16 scale,
            or a down weight too large for float16.
    """
    if weights.ndim != 3 or weights.shape[1] not in (2, 3):
        raise LoweringError(
            f"{form} weights: expected bundles [F,3,D], or [F,2,D] of a plain FFN, "
            f"got {weights.shape}"
        )
    count, per_neuron, d_model = weights.shape
    bundles = np.zeros((count, bundle_bytes(d_model, form, gated=per_neuron == 3)), np.uint8)
    for part in _blocks(count, per_neuron * d_model):
        rows = weights[part].astype(np.float32)
        outliers = _take_outliers(rows[:, -1], form)
        parts = (*_pack(rows.reshape(-1, d_model), form), outliers)
        stored = np.concatenate([each.reshape(len(rows), -1) for each in parts], axis=1)
        bundles[part, : stored.shape[1]] = stored
    return bundles


def quantise_rows(weights: FloatArray, form: BundleFormat) -> Bytes:
    """Bytes of the rows of a linear layer or an embedding, quantised as in ``quantise``.

    Shape: [N,D] -> [N,row_bytes].

    Raises:
        LoweringError: a wrong shape, a weight that is not finite or too large for a float16 scale.
    """
    if weights.ndim != 2:
        raise LoweringError(f"{form} weights: expected rows [N,D], got {weights.shape}")
    rows = np.empty((len(weights), row_bytes(weights.shape[1], form)), np.uint8)
    for part in _blocks(*weights.shape):
        rows[part] = np.concatenate(_pack(weights[part], form), axis=1)
    return rows


def dequantise(
    bundles: Bytes, d_model: int, form: BundleFormat, *, gated: bool = True
) -> FloatArray:
    """The weights that the bytes stand for.

    Shape: [F,bundle_bytes] -> [F,R,D].

    Raises:
        LoweringError: the bundles are of another size.
    """
    _check(bundles, "bundles [F,", bundle_bytes(d_model, form, gated=gated), form)
    integer, row, count = _integer_bytes(d_model, form), row_bytes(d_model, form), _rows(gated)
    ends = np.cumsum([count * integer, count * (row - integer), _OUTLIER_BYTES])
    weights = np.empty((len(bundles), count, d_model), np.float32)
    for part in _blocks(len(bundles), count * d_model):
        integers, scales, outliers, _ = np.split(bundles[part], ends, axis=1)
        rows = _unpack(integers.reshape(-1, integer), scales.reshape(-1, row - integer), form)
        weights[part] = rows.reshape(-1, count, d_model)
        _add_outliers(weights[part, -1], outliers)
    return weights


def pack_down(weights: FloatArray, form: BundleFormat) -> Bytes:
    """Down rows as bundles hold them, by themselves: row | outliers.

    Shape: [F,D] -> [F,row_bytes + outliers].

    Raises:
        LoweringError: as ``quantise``.
    """
    bundle_bytes(weights.shape[1], form)  # refuses widths that no bundle has
    rest = weights.astype(np.float32)
    outliers = _take_outliers(rest, form)
    return np.concatenate([quantise_rows(rest, form), outliers], axis=1)


def unpack_down(stored: Bytes, d_model: int, form: BundleFormat) -> FloatArray:
    """The weights that the bytes of ``pack_down`` stand for. Shape: [F,bytes] -> [F,D]."""
    end = row_bytes(d_model, form)
    rounded = dequantise_rows(stored[:, :end], d_model, form)
    _add_outliers(rounded, stored[:, end:])
    return rounded


def dequantise_rows(rows: Bytes, depth: int, form: BundleFormat) -> FloatArray:
    """The weights that the bytes stand for.

    Shape: [N,row_bytes] -> [N,D].

    Raises:
        LoweringError: the rows are of another size.
    """
    _check(rows, "rows [N,", row_bytes(depth, form), form)
    end = _integer_bytes(depth, form)
    weights = np.empty((len(rows), depth), np.float32)
    for part in _blocks(len(rows), depth):
        weights[part] = _unpack(rows[part, :end], rows[part, end:], form)
    return weights


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


def _rows(gated: bool) -> int:
    """Rows of a neuron."""
    return 3 if gated else 2


def _integer_bytes(depth: int, form: BundleFormat) -> int:
    """Bytes of a row's integers."""
    return depth if form == "int8" else depth // 2


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of rows that together are all, each few enough for a processor's cache."""
    step = max(1, _BLOCK // width)
    return (slice(first, first + step) for first in range(0, count, step))


def _check(stored: Bytes, what: str, size: int, form: BundleFormat) -> None:
    if stored.dtype != np.uint8 or stored.ndim != 2 or stored.shape[1] != size:
        raise LoweringError(
            f"{form} weights: expected uint8 {what}{size}], got {stored.dtype} {stored.shape}"
        )


def _take_outliers(down: FloatArray, form: BundleFormat) -> Bytes:
    """Set the outliers of rows [F,D] to 0. Returns their bytes [F,4 OUTLIERS].

    A group's squared error grows with the square of its largest weight: the next outlier is the
    weight whose removal lessens this most.
    """
    limit = np.finfo(np.float16).max
    if not (np.abs(down) <= limit).all():
        raise LoweringError(
            f"{form} weights: expected finite numbers of at most {limit:.0f} in down rows, "
            f"got {np.abs(down).max():g}; use float32 weights"
        )
    outliers = np.zeros((len(down), OUTLIERS), _OUTLIER)
    neurons = np.arange(len(down))
    for outlier in outliers.T:
        sizes = np.abs(down).reshape(len(down), -1, GROUP)
        largest = np.partition(sizes, GROUP - 2, axis=-1)[..., GROUP - 2 :].astype(np.float64)
        group = np.diff(largest**2, axis=-1)[..., 0].argmax(-1)
        column = GROUP * group + sizes[neurons, group].argmax(-1)
        outlier["column"], outlier["weight"] = column, down[neurons, column]
        down[neurons, column] = 0
    return outliers.view(np.uint8)


def _add_outliers(down: FloatArray, stored: Bytes) -> None:
    """Add outliers, of which there are bytes [F,4 OUTLIERS], to rows [F,D] in place."""
    for outlier in np.ascontiguousarray(stored).view(_OUTLIER).T:
        (neurons,) = np.nonzero(outlier["column"] < down.shape[1])
        down[neurons, outlier["column"][neurons]] += outlier["weight"][neurons]


def _pack(weights: FloatArray, form: BundleFormat) -> tuple[Bytes, Bytes]:
    """Rows [N,D] to their integers [N,D] or [N,D/2] and the bytes of their scales [N,2G]."""
    count, depth = weights.shape
    groups = weights.astype(np.float32).reshape(count, depth // GROUP, GROUP)
    scales = _scales(groups, form)
    shifted: Bytes = (_integers(groups, scales, form) + _OFFSET[form]).astype(np.uint8)
    if form == "int4":
        shifted = shifted[..., : GROUP // 2] + np.uint8(16) * shifted[..., GROUP // 2 :]
    return shifted.reshape(count, -1), scales.astype("<f2").reshape(count, -1).view(np.uint8)


def _unpack(integers: Bytes, scales: Bytes, form: BundleFormat) -> FloatArray:
    """The inverse of ``_pack``: rows [N,D]."""
    count = len(integers)
    factors = np.ascontiguousarray(scales).view("<f2").astype(np.float32)
    stored = integers.reshape(count, factors.shape[1], -1)
    weights = np.empty((*factors.shape, GROUP), np.float32)
    if form == "int4":
        weights[..., : GROUP // 2], weights[..., GROUP // 2 :] = stored & 15, stored >> 4
    else:
        weights[:] = stored
    weights -= _OFFSET[form]
    weights *= factors[..., None]
    return weights.reshape(count, -1)


def _scales(groups: FloatArray, form: BundleFormat) -> NDArray[np.float16]:
    """Scales [N,G,1] of groups [N,G,32]."""
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
        lost = _integers(groups, scales, form)
        lost *= scales.astype(np.float32)
        lost -= groups
        error = np.einsum("ngi,ngi->ng", lost, lost)[..., None]
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best


def _integers(groups: FloatArray, scales: NDArray[np.float16], form: BundleFormat) -> FloatArray:
    """The nearest integers [N,G,32], as floats; 0 where the scale is."""
    exact = scales.astype(np.float32)
    exact[exact == 0] = np.inf
    integers: FloatArray = groups / exact
    np.rint(integers, out=integers)
    return np.clip(integers, _SMALLEST[form], _LARGEST[form], out=integers)
