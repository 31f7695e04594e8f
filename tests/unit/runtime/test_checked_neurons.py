"""Rows of neurons that a caller may ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glass_export.errors import GenerationError
from glass_export.runtime.request import checked_neurons
from glass_export.spec import ModelDims

DIMS = ModelDims(layers=2, d_model=4, d_ff=6, heads=1, kv_heads=1, head_dim=4, vocab_size=9)
EVERY = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "rows",
    [
        [[0], [5]],
        [EVERY, EVERY],
        [EVERY, [1, 4, -1, -1, -1, -1]],
        [[2, -1], [0, 5]],
        [[2, -1, -1], [3, -1, -1]],
        np.array([[1], [2]], np.uint64),
    ],
)
def test_rows_may_end_in_padding(rows: Any) -> None:
    checked = checked_neurons(rows, DIMS)
    assert checked.dtype == np.int32 and checked.flags.c_contiguous
    assert checked.tolist() == np.asarray(rows).tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([EVERY], r"got int64 of shape \[1, 6\], expected .* shape \[2, K\] with K from 1 to 6"),
        ([[*EVERY, -1]] * 2, r"shape \[2, 7\]"),
        (np.zeros((2, 0), np.int32), r"shape \[2, 0\]"),
        ([[0.0], [1.0]], "float64"),
        ([[0, 6], [0, 1]], "indices from 0 to 6, expected 0 to 5, or -1 as padding at the end"),
        ([[0, 1], [0, -2]], "indices from -2 to 1"),
        ([[0, 1], [-1, 1]], r"row 1 has padding \(-1\) before an index, or nothing else; only"),
        ([[0, -1, 1], [0, 1, 2]], "row 0 has padding"),
        ([[0, 1], [-1, -1]], "row 1 has padding"),
        ([[0, 1], [1, 0]], "not ascending or repeats"),
        ([[1, 1, -1], [0, 1, 2]], "not ascending or repeats"),
    ],
)
def test_other_rows_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(GenerationError, match=f"neurons: .*{message}"):
        checked_neurons(rows, DIMS)
