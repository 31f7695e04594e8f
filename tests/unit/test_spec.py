"""Numbers of kept neurons: roundings, dense layers, refusals. What always holds: tests/property."""

from __future__ import annotations

import pytest

from glass_export.errors import GenerationError
from glass_export.spec import kept_neurons, layer_budgets


def test_without_dense_layers_every_layer_keeps_the_same() -> None:
    assert layer_budgets(0.5, 1536, 3) == (768, 768, 768)
    assert layer_budgets(0.3, 10, 1) == (kept_neurons(0.3, 10),)


def test_the_others_give_what_dense_layers_take() -> None:
    assert layer_budgets(0.5, 10, 6, (5,)) == (4, 4, 4, 4, 4, 10)
    assert layer_budgets(0.5, 10, 6, (5, 0)) == (4, 4, 4, 4, 4, 10)  # else they would keep 2
    assert layer_budgets(0.5, 10, 8, (5, 0)) == (10, 3, 3, 3, 3, 10, 3, 3)
    assert layer_budgets(0.5, 1536, 30, (0, 29))[1] == (30 * 768 - 2 * 1536) // 28


def test_dense_layers_count_as_long_as_the_others_keep_half() -> None:
    assert layer_budgets(0.5, 8, 4, (2, 1, 0)) == (2, 2, 8, 2)
    assert layer_budgets(0.25, 8, 4, (2, 1)) == (2, 2, 2, 2)
    assert layer_budgets(0.5, 8, 1, (0,)) == (4,)


def test_the_order_says_which_layers_count() -> None:
    assert layer_budgets(0.5, 8, 4, (1, 2)) == (2, 8, 2, 2)


def test_at_density_one_nothing_changes() -> None:
    assert layer_budgets(1.0, 8, 3, (0, 1, 2)) == (8, 8, 8)


@pytest.mark.parametrize("layers", [(3,), (-1,), (0, 5), (1, 1)])
@pytest.mark.parametrize("density", [0.01, 0.5, 1.0])
def test_layers_that_are_not_in_the_model_are_errors(
    density: float, layers: tuple[int, ...]
) -> None:
    with pytest.raises(GenerationError, match=r"dense_layers: got \[.*expected layers 0 to 2"):
        layer_budgets(density, 8, 3, layers)
