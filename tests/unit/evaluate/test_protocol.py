"""The protocol's pieces that need no model."""

from __future__ import annotations

import numpy as np

from glass_export.evaluate.protocol import as_mask


def test_a_mask_has_the_neurons_of_a_row_and_none_for_its_padding() -> None:
    rows = np.array([[0, 2, 3], [1, -1, -1]], np.int32)
    assert as_mask(rows, 4).tolist() == [[True, False, True, True], [False, True, False, False]]
