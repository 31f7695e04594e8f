"""What holds for ranks, fusion and top-K whatever the scores are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import LocalStatistics
from glass_export.scoring import FloatArray, borda, local_scores, ranks, shrinkage, top_k

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45])
lambdas = st.floats(0, 1)


@st.composite
def pairs(draw: st.DrawFn, unique: bool = False) -> tuple[FloatArray, FloatArray]:
    """Local scores and prior of one shape; many ties unless ``unique``."""
    layers, width = draw(shapes)
    if unique:
        order = st.permutations([float(j) for j in range(width)])
        local, prior = (np.array([draw(order) for _ in range(layers)]) for _ in range(2))
        return local.astype(np.float32), prior.astype(np.float32)
    kind = st.one_of(finite, few)
    scores = arrays(np.float32, (layers, width), elements=kind)
    return draw(scores), draw(scores)


@given(pairs())
def test_ranks_are_a_permutation_in_score_order(pair: tuple[FloatArray, FloatArray]) -> None:
    scores = pair[0]
    for row, rank in zip(scores, ranks(scores), strict=True):
        assert sorted(rank) == list(range(row.size))
        by_rank = row[np.argsort(rank)]
        assert (by_rank[1:] >= by_rank[:-1]).all()
        for value in np.unique(row):
            assert (np.diff(rank[row == value]) < 0).all()  # the lower index is more important


@given(pairs(), lambdas)
def test_borda_ignores_strictly_monotone_rescaling(
    pair: tuple[FloatArray, FloatArray], lam: float
) -> None:
    local, prior = pair
    levels = np.unique(local)
    rescaled = (np.searchsorted(levels, local) ** 3 - 7).astype(np.float32)
    before = borda(ranks(local), ranks(prior), lam)
    np.testing.assert_array_equal(borda(ranks(rescaled), ranks(prior), lam), before)


@given(pairs(unique=True), st.data())
def test_ranks_move_with_the_neurons(
    pair: tuple[FloatArray, FloatArray], data: st.DataObject
) -> None:
    local, prior = pair
    width = local.shape[1]
    moved = np.array(data.draw(st.permutations(range(width))))
    fused, fused_moved = (
        borda(ranks(a), ranks(b), 0.25)
        for a, b in ((local, prior), (local[:, moved], prior[:, moved]))
    )
    np.testing.assert_array_equal(fused_moved, fused[:, moved])
    k = data.draw(st.integers(1, width))
    kept = top_k(local[:, moved], k)
    np.testing.assert_array_equal(np.sort(moved[kept], axis=1), top_k(local, k))


@given(pairs(), lambdas, st.data())
def test_indices_are_sorted_unique_and_in_range(
    pair: tuple[FloatArray, FloatArray], lam: float, data: st.DataObject
) -> None:
    local, prior = pair
    layers, width = local.shape
    k = data.draw(st.integers(1, width))
    for scores in (local, borda(ranks(local), ranks(prior), lam)):
        kept = top_k(scores, k)
        assert kept.shape == (layers, k)
        assert kept.min() >= 0 and kept.max() < width
        assert (np.diff(kept, axis=1) > 0).all()


@given(pairs(), st.sampled_from(["borda", "local", "global"]))
def test_k_equal_to_f_keeps_every_neuron(pair: tuple[FloatArray, FloatArray], fusion: str) -> None:
    local, prior = pair
    sums = LocalStatistics(np.abs(local), np.abs(local), 3.0)
    recipe = SelectionRecipe(fusion=fusion)  # type: ignore[arg-type]  # drawn from the fusions
    kept = select_neurons(sums, Priors({"A": prior}), recipe, local.shape[1])
    assert (kept == np.arange(local.shape[1])).all()


@given(pairs(), st.data())
def test_a_larger_k_keeps_all_that_a_smaller_one_keeps(
    pair: tuple[FloatArray, FloatArray], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, pair[0].shape[1]))
    smaller, larger = top_k(pair[0], max(1, k - 1)), top_k(pair[0], k)
    for few_row, many_row in zip(smaller, larger, strict=True):
        assert set(few_row) <= set(many_row)


@given(pairs(), st.integers(1, 10_000), st.floats(0.001, 1e6))
def test_shrinkage_limits(pair: tuple[FloatArray, FloatArray], tokens: int, tau: float) -> None:
    local, prior = (np.clip(scores, -1e30, 1e30) for scores in pair)
    np.testing.assert_array_equal(shrinkage(local, tokens, prior, 0.0), local)
    np.testing.assert_array_equal(shrinkage(local, 0, prior, tau), prior)
    mixed = shrinkage(local, tokens, prior, tau)
    assert (mixed >= np.minimum(local, prior)).all() and (mixed <= np.maximum(local, prior)).all()


@given(st.integers(2, 12), st.data())
def test_statistics_add_over_chunks(tokens: int, data: st.DataObject) -> None:
    units = arrays(np.float32, (tokens, 2, 5), elements=st.integers(-8, 8).map(float))
    u = data.draw(units)
    cut = data.draw(st.integers(1, tokens - 1))
    whole, total = sums_of(u), LocalStatistics.zeros(2, 5)
    for part in (u[:cut], u[cut:]):
        total.add(sums_of(part))
    assert total.tokens == whole.tokens
    for form in ("A", "griffin", "squared"):
        np.testing.assert_array_equal(local_scores(total, form), local_scores(whole, form))


def sums_of(u: FloatArray) -> LocalStatistics:
    return LocalStatistics(np.abs(u).sum(0), (u**2).sum(0), float(len(u)))
