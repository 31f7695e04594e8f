"""What holds for the neurons kept by every layer, whatever model, density and dense layers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glass_export.spec import kept_neurons, layer_budgets


@st.composite
def models(draw: st.DrawFn) -> tuple[float, int, int, tuple[int, ...]]:
    """Density, F, L and dense layers."""
    layers = draw(st.integers(1, 40))
    dense = draw(st.lists(st.integers(0, layers - 1), unique=True))
    density = draw(st.floats(0.001, 1) | st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    return density, draw(st.integers(1, 5000)), layers, tuple(dense)


@given(models())
def test_dense_layers_cost_the_others_no_more_than_half(
    model: tuple[float, int, int, tuple[int, ...]],
) -> None:
    density, d_ff, layers, dense = model
    kept, budgets = kept_neurons(density, d_ff), layer_budgets(*model)
    assert len(budgets) == layers
    assert layers * kept - layers < sum(budgets) <= layers * kept
    assert all(count == d_ff or count >= -(-kept // 2) for count in budgets)
    honoured = sum(budgets[layer] == d_ff for layer in dense) if kept < d_ff else len(dense)
    full = set(dense[:honoured])
    assert len({count for layer, count in enumerate(budgets) if layer not in full}) <= 1
    assert all(budgets[layer] == d_ff for layer in full)


@given(models())
def test_one_more_dense_layer_would_cost_the_others_too_much(
    model: tuple[float, int, int, tuple[int, ...]],
) -> None:
    density, d_ff, layers, dense = model
    kept, budgets = kept_neurons(density, d_ff), layer_budgets(*model)
    count = sum(budgets[layer] == d_ff for layer in dense) if kept < d_ff else len(dense)
    if kept < d_ff and count < len(dense) and count < layers - 1:
        left = layers * kept - (count + 1) * d_ff
        assert left // (layers - count - 1) < -(-kept // 2)
