"""Scores, ranks, fusion and top-K against slow definitions, and the golden vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from glass_export.errors import GenerationError
from glass_export.fusion import Priors, fuse, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import LocalStatistics
from glass_export.scoring import (
    FloatArray,
    borda,
    local_scores,
    ranks,
    sensitivity_weights,
    shrinkage,
    top_k,
)

TINY = float(np.finfo(np.float32).smallest_subnormal)
HUGE = float(np.finfo(np.float32).max)
CASES = {
    "distinct": [[0.5, 0.125, 2.0, 1.0, 0.25], [5.0, 4.0, 3.0, 2.0, 1.0]],
    "all equal": [[1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]],
    "ties at the edge": [[1.0, 2.0, 1.0, 2.0, 1.0], [3.0, 1.0, 3.0, 1.0, 3.0]],
    "signed zeros": [[0.0, -0.0, 0.0, -0.0, 1.0], [-0.0, 0.0, -1.0, 1.0, -0.0]],
    "denormals": [[TINY, 0.0, 2 * TINY, -TINY, TINY], [1.0, TINY, 0.0, 0.0, 1.0]],
    "negative": [[-1.0, -2.0, -1.0, 3.0, -3.0], [-1.5, -1.25, -1.75, -1.0, -2.0]],
    "same upper half": [[1.0, 1 + 2**-23, 1 + 2**-22, 1.0, 1 + 2**-23], [9.0, 1.0, 1.0, 1.0, 9.0]],
    "extremes": [[HUGE, -HUGE, 0.0, 1e-30, 1e30], [1.0, 2.0, 3.0, 4.0, 5.0]],
}  # fmt: skip


def f32(values: Any) -> FloatArray:
    return np.asarray(values, np.float32)


def slow_order(row: FloatArray) -> list[int]:
    """Most important first: falling score, then rising index."""
    return sorted(range(len(row)), key=lambda j: (-float(row[j]), j))


def slow_ranks(scores: FloatArray) -> list[list[int]]:
    orders = [slow_order(row) for row in scores]
    return [[len(order) - 1 - order.index(j) for j in range(len(order))] for order in orders]


def random_scores(layers: int, width: int, seed: int = 0) -> FloatArray:
    """Scores of many magnitudes with many ties."""
    rng = np.random.default_rng(seed)
    return f32(rng.integers(-50, 50, (layers, width)) * 10.0 ** rng.integers(-3, 3, (layers, 1)))


@pytest.mark.parametrize("name", CASES)
def test_ranks_and_top_k_follow_the_definition(name: str) -> None:
    scores = f32(CASES[name])
    assert ranks(scores).tolist() == slow_ranks(scores)
    for k in range(1, scores.shape[1] + 1):
        expected = [sorted(slow_order(row)[:k]) for row in scores]
        assert top_k(scores, k).tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 257, 1000])
def test_wide_rows_follow_the_definition(width: int) -> None:
    scores = random_scores(3, width)
    assert ranks(scores).tolist() == slow_ranks(scores)
    for k in {1, (width + 1) // 2, width}:
        assert top_k(scores, k).tolist() == [sorted(slow_order(row)[:k]) for row in scores]


def test_top_k_keeps_the_highest_ranks() -> None:
    scores = random_scores(4, 500)
    for k in (1, 137, 250, 500):
        expected = np.argwhere(ranks(scores) >= 500 - k)[:, 1].reshape(4, k)
        np.testing.assert_array_equal(top_k(scores, k), expected)


def test_views_and_other_layouts_give_the_same() -> None:
    scores = random_scores(4, 100)
    for same in (np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(ranks(same), ranks(scores))
        np.testing.assert_array_equal(top_k(same, 30), top_k(scores, 30))


def test_results_are_int32() -> None:
    scores = random_scores(2, 8)
    assert ranks(scores).dtype == np.int32
    assert top_k(scores, 3).dtype == np.int32


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_errors_that_name_the_layer(bad: float) -> None:
    scores = random_scores(3, 16)
    scores[1, 5] = bad
    for function in (ranks, lambda s: top_k(s, 2)):
        with pytest.raises(GenerationError, match="layer 1"):
            function(scores)


@pytest.mark.parametrize("k", [0, -1, 17])
def test_k_out_of_range_is_an_error(k: int) -> None:
    with pytest.raises(GenerationError, match=f"got {k}, expected 1 to F = 16"):
        top_k(random_scores(2, 16), k)


def test_every_layer_keeps_its_own_number() -> None:
    scores = random_scores(4, 50)
    chosen = top_k(scores, (3, 50, 1, 3))
    assert chosen.shape == (4, 50) and chosen.dtype == np.int32
    for row, count, alone in zip(chosen, (3, 50, 1, 3), scores, strict=True):
        assert row[:count].tolist() == top_k(alone[np.newaxis], count)[0].tolist()
        assert (row[count:] == -1).all()
    np.testing.assert_array_equal(top_k(scores, [7] * 4), top_k(scores, 7))


@pytest.mark.parametrize("counts", [[], [3], [3, 3, 3], [0, 3], [3, 17]])
def test_unusable_numbers_of_neurons_are_errors(counts: list[int]) -> None:
    with pytest.raises(GenerationError, match=r"K: got .*, expected (one|1)"):
        top_k(random_scores(2, 16), counts)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0), (2, 2, 2)])
def test_other_shapes_are_errors(shape: tuple[int, ...]) -> None:
    with pytest.raises(GenerationError, match="expected"):
        ranks(np.zeros(shape, np.float32))


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.5, 0.3, 1.0])
def test_borda_is_the_weighted_sum_of_ranks(lam: float) -> None:
    local, prior = ranks(random_scores(2, 300)), ranks(random_scores(2, 300, seed=1))
    expected = (1 - lam) * local + lam * prior
    np.testing.assert_allclose(borda(local, prior, lam) / 65536, expected, atol=300 / 65536)


def test_borda_spans_the_widest_layer_without_overflow() -> None:
    rank = np.arange(65536, dtype=np.int32)[np.newaxis]
    for lam in (0.0, 0.3, 1.0):
        np.testing.assert_array_equal(borda(rank, rank, lam), rank.astype(np.uint64) * 65536)
    wide = np.zeros((1, 65537), np.int32)
    with pytest.raises(GenerationError, match="at most 65536"):
        borda(wide, wide, 0.5)


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_borda_refuses_a_lambda_out_of_range(lam: float) -> None:
    rank = ranks(random_scores(1, 4))
    with pytest.raises(GenerationError, match="lam"):
        borda(rank, rank, lam)


def test_a_prior_of_another_shape_is_an_error() -> None:
    with pytest.raises(GenerationError, match="another model"):
        shrinkage(random_scores(2, 4), 1, random_scores(2, 5), 1.0)


@pytest.mark.parametrize(("tokens", "tau"), [(0, 0.0), (-1, 5.0), (3, -1.0), (3, float("nan"))])
def test_shrinkage_refuses_weights_without_meaning(tokens: float, tau: float) -> None:
    scores = random_scores(1, 4)
    with pytest.raises(GenerationError, match="shrinkage"):
        shrinkage(scores, tokens, scores, tau)


@pytest.mark.parametrize("sensitivity", [0.25, 0.5, 1.0])
def test_sensitivity_weights_are_powers_of_effect_per_activity(sensitivity: float) -> None:
    rng = np.random.default_rng(0)
    effect, activity = f32(10.0 ** rng.uniform([[-14], [-8]], [[2], [-3]], (2, 500)))
    got = sensitivity_weights(effect[np.newaxis], activity[np.newaxis], sensitivity)
    assert got.dtype == np.float64 and got.shape == (1, 500)
    expected = [(float(f) / float(g)) ** sensitivity for f, g in zip(effect, activity, strict=True)]
    np.testing.assert_allclose(got[0], expected, rtol=1e-14)
    with np.errstate(all="raise"):
        fused = shrinkage(f32([activity]), 3, f32([activity]), 64.0, got)
    assert np.isfinite(fused).all()


def test_sensitivity_of_neurons_that_are_never_active_is_none() -> None:
    effect, activity = f32([[2.0, 0.0, -0.0, 3.0]]), f32([[0.0, -0.0, 4.0, TINY]])
    with np.errstate(all="raise"):
        weights = sensitivity_weights(effect, activity, 1.0)
    assert weights.tolist() == [[0.0, 0.0, 0.0, 3.0 / TINY]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, -TINY])
@pytest.mark.parametrize("which", ["F", "G"])
def test_sensitivity_refuses_what_is_no_mean_of_squares(which: str, bad: float) -> None:
    values = {"F": np.ones((2, 3), np.float32), "G": np.ones((2, 3), np.float32)}
    values[which][1, 2] = bad
    with pytest.raises(GenerationError, match=f"prior {which}: .*export the model again"):
        sensitivity_weights(values["F"], values["G"], 0.5)


@pytest.mark.parametrize("sensitivity", [0.0, 0.3, 2.0, float("nan")])
def test_other_sensitivities_are_errors(sensitivity: float) -> None:
    with pytest.raises(GenerationError, match="expected 0.25, 0.5 or 1"):
        sensitivity_weights(random_scores(1, 4) ** 2, random_scores(1, 4) ** 2, sensitivity)


def statistics(tokens: int = 7, seed: int = 0) -> LocalStatistics:
    u = np.random.default_rng(seed).standard_normal((tokens, 2, 12))
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    return LocalStatistics(f32(np.abs(u).sum(0)), f32((u**2).sum(0)), float(tokens))


def test_local_scores_are_their_formulas() -> None:
    sums = statistics()
    np.testing.assert_array_equal(local_scores(sums, "A"), sums.abs_sum / np.float32(7))
    np.testing.assert_array_equal(local_scores(sums, "squared"), sums.sq_sum / np.float32(7))
    np.testing.assert_array_equal(local_scores(sums, "griffin"), np.sqrt(sums.sq_sum))
    with pytest.raises(GenerationError, match="no prompt token was scored"):
        local_scores(LocalStatistics.zeros(2, 12), "A")


def test_every_fusion_selects_by_its_own_score() -> None:
    sums, other = statistics(), statistics(40, seed=1)
    squared, mean = local_scores(other, "squared"), local_scores(other, "A")
    priors = Priors({"G": squared, "A": mean})
    recipe = SelectionRecipe(local="squared", prior="G", lam=0.25, tau=16.0)
    local = local_scores(sums, "squared")
    expected = {
        "local": top_k(local, 5),
        "global": top_k(squared, 5),
        "borda": top_k(borda(ranks(local), ranks(squared), 0.25), 5),
        "shrinkage": top_k(f32((7.0 * local + 16.0 * squared) / 23.0), 5),
    }
    for fusion, neurons in expected.items():
        chosen = select_neurons(sums, priors, replace(recipe, fusion=fusion), 5)  # type: ignore[arg-type]  # the dict's keys are fusions
        np.testing.assert_array_equal(chosen, neurons)
    assert len({rows.tobytes() for rows in expected.values()}) > 2


def test_shrinkage_without_scored_tokens_is_the_prior() -> None:
    prior = local_scores(statistics(), "A")
    recipe = SelectionRecipe(fusion="shrinkage", local="A", prior="A")
    fused = fuse(LocalStatistics.zeros(2, 12), Priors({"A": prior}), recipe)
    np.testing.assert_array_equal(fused, prior)


def test_shrinkage_refuses_scores_of_different_scales() -> None:
    recipe = SelectionRecipe(fusion="shrinkage", local="A", prior="G")
    with pytest.raises(GenerationError, match="local 'squared' with prior 'G'"):
        fuse(statistics(), Priors({"G": statistics().sq_sum}), recipe)


def test_a_prior_that_is_not_there_is_an_error() -> None:
    with pytest.raises(GenerationError, match="'F' is not in the artifact; known: A"):
        fuse(statistics(), Priors({"A": statistics().abs_sum}), SelectionRecipe(prior="F"))


def test_sensitivity_multiplies_the_fused_mean_before_it_is_rounded() -> None:
    sums, other = statistics(), statistics(40, seed=1)
    squared = local_scores(other, "squared")
    priors = Priors({"G": squared, "F": squared * f32(np.linspace(0.1, 9, 12))})
    recipe = SelectionRecipe(
        fusion="shrinkage", local="squared", prior="G", tau=16.0, sensitivity=0.5
    )
    mean = (7.0 * np.float64(local_scores(sums, "squared")) + 16.0 * np.float64(squared)) / 23.0
    expected = f32(mean * np.sqrt(np.float64(priors.scores("F")) / np.float64(squared)))
    np.testing.assert_array_equal(fuse(sums, priors, recipe), expected)
    plain = select_neurons(sums, priors, replace(recipe, sensitivity=0.0), 5)
    assert (select_neurons(sums, priors, recipe, 5) != plain).any()
    assert priors.weights(0.5) is priors.weights(0.5)


def test_sensitivity_needs_both_priors() -> None:
    recipe = SelectionRecipe(mode="auto", sensitivity=1.0)
    with pytest.raises(GenerationError, match="'F' is not in the artifact"):
        fuse(statistics(), Priors({"G": statistics().sq_sum}), recipe)


@dataclass(frozen=True)
class GoldenCase:
    """Input and every result of one case, as plain data."""

    name: str
    local: FloatArray
    prior: FloatArray

    def results(self) -> dict[str, Any]:
        local_ranks, prior_ranks = ranks(self.local), ranks(self.prior)
        width = self.local.shape[1]
        fused = {str(lam): borda(local_ranks, prior_ranks, lam) for lam in (0.0, 0.3, 0.5, 1.0)}
        return {
            "name": self.name,
            "local": self.local.tolist(),
            "prior": self.prior.tolist(),
            "ranks": local_ranks.tolist(),
            "top_k": {str(k): top_k(self.local, k).tolist() for k in range(1, width + 1)},
            "borda": {lam: scores.tolist() for lam, scores in fused.items()},
            "borda_top_3": {lam: top_k(scores, 3).tolist() for lam, scores in fused.items()},
            "shrinkage_tokens_3_tau_8": shrinkage(self.local, 3, self.prior, 8.0).tolist(),
        }


def golden_sensitivity(draws: FloatArray) -> dict[str, Any]:
    """Weights, scores and neurons of every sensitivity, of layers that keep different numbers."""
    spread = np.arange(draws.shape[2])
    powers = f32(np.ldexp(1.0, [-(spread % 8), spread * 3 % 8]))
    local, activity, effect = draws[0], draws[1] * powers[0], draws[0] * powers[1]
    results: dict[str, Any] = {
        "local": local.tolist(), "activity": activity.tolist(), "effect": effect.tolist(),
        "tokens": 4.0, "tau": 8.0, "budgets": [5, 40, 17], "weights": {}, "fused": {}, "neurons": {}
    }  # fmt: skip
    for sensitivity in (0.25, 0.5, 1.0):
        weights = sensitivity_weights(effect, activity, sensitivity)
        fused = shrinkage(local, 4.0, activity, 8.0, weights)
        results["weights"][str(sensitivity)] = weights.tolist()
        results["fused"][str(sensitivity)] = fused.tolist()
        results["neurons"][str(sensitivity)] = top_k(fused, results["budgets"]).tolist()
    return results


def test_golden_vectors(golden: Callable[[str, Any], Any]) -> None:
    """Shared with the native port; ``pytest --update-goldens`` writes them anew."""
    prior = f32([[0.25, 0.5, 0.125, 0.5, 0.0], [2.0, 2.0, 1.0, 3.0, 3.0]])
    cases = [GoldenCase(name, f32(scores), prior).results() for name, scores in CASES.items()]
    rng = np.random.default_rng(2508_14302)
    draws = f32(np.round(rng.standard_normal((2, 3, 40)) ** 2, 1))
    cases.append(GoldenCase("random with ties", draws[0], draws[1]).results())
    sums = LocalStatistics(abs_sum=draws[0], sq_sum=draws[1], tokens=7.0)
    forms = {form: local_scores(sums, form).tolist() for form in ("A", "griffin", "squared")}
    local = {"abs_sum": draws[0].tolist(), "sq_sum": draws[1].tolist(), "tokens": 7.0, **forms}
    actual = {"cases": cases, "local_scores": local, "sensitivity": golden_sensitivity(draws)}
    assert actual == golden("scoring.json", actual)
