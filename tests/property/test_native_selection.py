"""Native scores, ranks, fusions and choices have the bits of the reference, whatever comes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from native_calls import F32, FORMS, FUSIONS, NativeCore

from glass_export import scoring
from glass_export.errors import GenerationError
from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import LocalStatistics

shapes = st.tuples(st.integers(1, 4), st.integers(1, 80))
few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45])
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
lambdas = st.floats(0, 1)


@st.composite
def score_pairs(draw: st.DrawFn) -> tuple[F32, F32]:
    values = arrays(np.float32, draw(shapes), elements=draw(st.sampled_from([few, finite])))
    local = draw(values)
    prior = draw(arrays(np.float32, local.shape, elements=few | finite))
    return local, prior


@pytest.fixture(scope="module")
def any_core(native_core: Path) -> NativeCore:
    return NativeCore(native_core)


@given(pair=score_pairs(), data=st.data())
def test_ranks_and_top_k_are_the_reference(
    any_core: NativeCore, pair: tuple[F32, F32], data: st.DataObject
) -> None:
    scores = pair[0]
    k = data.draw(st.integers(1, scores.shape[1]))
    np.testing.assert_array_equal(any_core.ranks(scores), scoring.ranks(scores))
    np.testing.assert_array_equal(any_core.top_k(scores, k), scoring.top_k(scores, k))


@given(pair=score_pairs(), lam=lambdas, data=st.data())
def test_borda_is_the_reference(
    any_core: NativeCore, pair: tuple[F32, F32], lam: float, data: st.DataObject
) -> None:
    local, prior = (scoring.ranks(scores) for scores in pair)
    fused = any_core.borda(local, prior, lam)
    np.testing.assert_array_equal(fused, scoring.borda(local, prior, lam))
    k = data.draw(st.integers(1, fused.shape[1]))
    np.testing.assert_array_equal(any_core.top_k(fused, k), scoring.top_k(fused, k))


@given(pair=score_pairs(), tokens=st.integers(0, 10**6), tau=st.floats(0, 1e6))
def test_shrinkage_is_the_reference(
    any_core: NativeCore, pair: tuple[F32, F32], tokens: int, tau: float
) -> None:
    assume(tokens + tau > 0)
    fused = any_core.shrinkage(pair[0], tokens, pair[1], tau)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(fused, scoring.shrinkage(pair[0], tokens, pair[1], tau))


@given(
    pair=score_pairs(),
    tokens=st.integers(1, 10**6),
    fusion=st.sampled_from(FUSIONS),
    form=st.sampled_from(FORMS),
    lam=lambdas,
    data=st.data(),
)
def test_the_whole_choice_is_the_reference(
    any_core: NativeCore,
    pair: tuple[F32, F32],
    tokens: int,
    fusion: str,
    form: str,
    lam: float,
    data: st.DataObject,
) -> None:
    prior = "A" if form == "A" else "G"
    assume((fusion, form) != ("shrinkage", "griffin"))
    sums = LocalStatistics(np.abs(pair[0]), np.abs(pair[0]), float(tokens))
    recipe = SelectionRecipe(fusion=fusion, local=form, prior=prior, lam=lam)  # type: ignore[arg-type]
    k = data.draw(st.integers(1, pair[0].shape[1]))
    try:
        with np.errstate(over="ignore"):
            expected = select_neurons(sums, Priors({prior: pair[1]}), recipe, k)  # type: ignore[dict-item]
    except GenerationError:
        assume(False)
    chosen = any_core.select_neurons(
        (sums.abs_sum, sums.sq_sum, sums.tokens),
        *(pair[1], k),
        **dict(fusion=fusion, local=form, lam=lam, tau=128.0),
    )
    np.testing.assert_array_equal(chosen, expected)


@given(
    data=st.data(),
    fusion=st.sampled_from(FUSIONS),
    form=st.sampled_from(FORMS),
    tau=st.sampled_from([0.0, 64.0]),
)
def test_a_choice_for_experts_is_the_reference(
    any_core: NativeCore, data: st.DataObject, fusion: str, form: str, tau: float
) -> None:
    """Rows without tokens, and rows whose prior is the same everywhere, are among them."""
    assume((fusion, form) != ("shrinkage", "griffin"))
    rows, width = data.draw(shapes)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    tokens = np.array(data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)))
    assume(tokens.any())
    units = rng.dirichlet(np.ones(width), rows).astype(np.float32)
    sums = LocalStatistics(np.sqrt(units) * tokens[:, None].astype(np.float32),
                           units * tokens[:, None].astype(np.float32), 4.0)  # fmt: skip
    known = rng.random((rows, width), np.float32)
    known[rng.random(rows) < 0.3] = 0.25
    name = "A" if form == "A" else "G"
    recipe = SelectionRecipe(fusion=fusion, local=form, prior=name, tau=tau)  # type: ignore[arg-type]
    k = data.draw(st.integers(1, width))
    expected = select_neurons(sums, Priors({name: known}, routed=True), recipe, k)  # type: ignore[dict-item]
    chosen = any_core.select_neurons(
        (sums.abs_sum, sums.sq_sum, sums.tokens),
        *(known, k),
        **dict(fusion=fusion, local=form, lam=recipe.lam, tau=tau, routed=True),
    )
    np.testing.assert_array_equal(chosen, expected)


squares = st.floats(0, width=32, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-45, 1e-8])


@given(data=st.data(), sensitivity=st.sampled_from([0.25, 0.5, 1.0]), tokens=st.integers(0, 10**6))
def test_a_choice_by_sensitivity_is_the_reference(
    any_core: NativeCore, data: st.DataObject, sensitivity: float, tokens: int
) -> None:
    layers, width = data.draw(shapes)
    sums, activity, effect = (
        data.draw(arrays(np.float32, (layers, width), elements=squares)) for _ in range(3)
    )
    budgets = data.draw(st.lists(st.integers(1, width), min_size=layers, max_size=layers))
    weights = scoring.sensitivity_weights(effect, activity, sensitivity)
    native = any_core.sensitivity_weights(effect, activity, sensitivity)
    np.testing.assert_array_equal(native.view(np.uint64), weights.view(np.uint64))
    recipe = SelectionRecipe(mode="auto", sensitivity=sensitivity)
    priors = Priors({"G": activity, "F": effect})
    with np.errstate(over="ignore"):
        try:
            local = LocalStatistics(sums, sums, float(tokens))
            expected = select_neurons(local, priors, recipe, budgets)
        except GenerationError:
            assume(False)  # beyond float32
    chosen = any_core.select_neurons(
        (sums, sums, float(tokens)), activity, budgets, fusion="shrinkage", local="squared",
        tau=recipe.tau, weights=weights,
    )  # fmt: skip
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("sensitivity", [0.25, 0.5, 1.0])
def test_every_instruction_set_chooses_alike(core: NativeCore, sensitivity: float) -> None:
    rng = np.random.default_rng(7)
    sums, activity, effect = (rng.standard_normal((3, 4, 300)) ** 4).astype(np.float32)
    budgets = (150, 300, 1, 77)
    weights = core.sensitivity_weights(effect, activity, sensitivity)
    recipe = SelectionRecipe(mode="auto", sensitivity=sensitivity)
    local = LocalStatistics(sums, sums, 5.0)
    expected = select_neurons(local, Priors({"G": activity, "F": effect}), recipe, budgets)
    chosen = core.select_neurons(
        (sums, sums, 5.0), activity, budgets, fusion="shrinkage", local="squared",
        tau=recipe.tau, weights=weights,
    )  # fmt: skip
    np.testing.assert_array_equal(chosen, expected)
