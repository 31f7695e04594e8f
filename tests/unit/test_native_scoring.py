"""The native scoring gives the same bits as the reference: golden vectors and the whole choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_calls import FORMS, FUSIONS, NativeCore, NativeError, f32

from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import LocalStatistics
from glass_export.scoring import ranks

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/scoring.json").read_text("utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}


@pytest.fixture
def core(native_core: Path) -> NativeCore:
    return NativeCore(native_core)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CASES[request.param]


def test_golden_ranks_and_top_k(core: NativeCore, case: dict[str, Any]) -> None:
    local = f32(case["local"])
    assert core.ranks(local).tolist() == case["ranks"]
    for k, neurons in case["top_k"].items():
        assert core.top_k(local, int(k)).tolist() == neurons


def test_golden_borda(core: NativeCore, case: dict[str, Any]) -> None:
    local, prior = core.ranks(f32(case["local"])), core.ranks(f32(case["prior"]))
    for lam, expected in case["borda"].items():
        fused = core.borda(local, prior, float(lam))
        assert fused.tolist() == expected
        assert core.top_k(fused, 3).tolist() == case["borda_top_3"][lam]


def test_golden_shrinkage(core: NativeCore, case: dict[str, Any]) -> None:
    fused = core.shrinkage(f32(case["local"]), 3, f32(case["prior"]), 8.0)
    np.testing.assert_array_equal(fused, f32(case["shrinkage_tokens_3_tau_8"]))


@pytest.mark.parametrize("sensitivity", ["0.25", "0.5", "1.0"])
def test_golden_sensitivity(core: NativeCore, sensitivity: str) -> None:
    golden = GOLDEN["sensitivity"]
    local, activity, effect = (f32(golden[name]) for name in ("local", "activity", "effect"))
    tokens, tau = golden["tokens"], golden["tau"]
    weights = core.sensitivity_weights(effect, activity, float(sensitivity))
    np.testing.assert_array_equal(weights, golden["weights"][sensitivity])
    fused = core.shrinkage(local, tokens, activity, tau, weights)
    np.testing.assert_array_equal(fused, f32(golden["fused"][sensitivity]))
    sums = local * f32(tokens), local * f32(tokens), tokens
    assert (sums[0] / f32(tokens) == local).all()
    chosen = core.select_neurons(
        sums, activity, golden["budgets"], fusion="shrinkage", local="squared", tau=tau,
        weights=weights,
    )  # fmt: skip
    assert chosen.tolist() == golden["neurons"][sensitivity]


@pytest.mark.parametrize("form", FORMS)
def test_golden_local_scores(core: NativeCore, form: str) -> None:
    golden = GOLDEN["local_scores"]
    sums = f32(golden["abs_sum"]), f32(golden["sq_sum"])
    np.testing.assert_array_equal(
        core.local_scores(*sums, golden["tokens"], form), f32(golden[form])
    )


def statistics(layers: int, width: int, tokens: int, seed: int = 0) -> LocalStatistics:
    """Sums of a shape that no golden case has, with ties."""
    sums = np.random.default_rng(seed).gamma(0.5, 1e-3, (2, layers, width)).round(5)
    return LocalStatistics(f32(sums[0]), f32(sums[1]), float(tokens))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("form", "prior"), [("squared", "G"), ("A", "A")])
def test_the_whole_choice_is_the_reference(
    core: NativeCore, fusion: str, form: str, prior: str
) -> None:
    sums, null = statistics(3, 1000, tokens=11), statistics(3, 1000, tokens=4096, seed=1)
    scores = null.sq_sum if form == "squared" else null.abs_sum
    recipe = SelectionRecipe(fusion=fusion, local=form, prior=prior, lam=0.3, tau=64.0)  # type: ignore[arg-type]  # parametrised literals
    for k in (1, 500, 999, 1000):
        expected = select_neurons(sums, Priors({prior: scores}), recipe, k)  # type: ignore[dict-item]
        chosen = core.select_neurons(
            (sums.abs_sum, sums.sq_sum, sums.tokens),
            *(scores, k),
            **dict(fusion=fusion, local=form, lam=0.3, tau=64.0),
        )
        np.testing.assert_array_equal(chosen, expected)


def test_shrinkage_without_scored_tokens_keeps_the_prior(core: NativeCore) -> None:
    empty, prior = np.zeros((2, 50), np.float32), statistics(2, 50, 9).sq_sum
    chosen = core.select_neurons((empty, empty, 0.0), prior, 7, fusion="shrinkage", local="squared")
    np.testing.assert_array_equal(chosen, core.top_k(prior, 7))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_layer_keeps_its_own_number(core: NativeCore, fusion: str) -> None:
    sums, scores = statistics(3, 90, tokens=11), statistics(3, 90, tokens=40, seed=1).sq_sum
    arrays = sums.abs_sum, sums.sq_sum, sums.tokens
    recipe = SelectionRecipe(mode="auto", fusion=fusion)  # type: ignore[arg-type]  # a parametrised literal
    budgets = (7, 90, 1)
    expected = select_neurons(sums, Priors({"G": scores}), recipe, budgets)
    chosen = core.select_neurons(arrays, scores, budgets, fusion=fusion, local="squared", tau=64.0)
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("budgets", [(0, 5), (5, 17), (5,)])
def test_unusable_numbers_of_neurons_are_refused(
    core: NativeCore, budgets: tuple[int, ...]
) -> None:
    scores = statistics(2, 16, 1).abs_sum
    with pytest.raises(NativeError, match="invalid argument"):
        core.select_neurons((scores, scores, 1.0), scores, budgets, fusion="local", local="A")


@pytest.mark.parametrize("fusion", ["borda", "local", "global"])
def test_only_shrinkage_takes_weights(core: NativeCore, fusion: str) -> None:
    scores = statistics(2, 16, 1).abs_sum
    weights = np.ones((2, 16))
    with pytest.raises(NativeError, match="invalid argument"):
        core.select_neurons(
            (scores, scores, 1.0), scores, 3, fusion=fusion, local="A", weights=weights
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_weights_are_made_of_means_of_squares(core: NativeCore, bad: float) -> None:
    good, damaged = np.ones(5, np.float32), f32([1, 1, bad, 1, 1])
    for effect, activity in ((good, damaged), (damaged, good)):
        with pytest.raises(NativeError, match="not finite"):
            core.sensitivity_weights(effect, activity, 0.5)
    for sensitivity in (0.0, 0.3, 2.0, np.nan):
        with pytest.raises(NativeError, match="invalid argument"):
            core.sensitivity_weights(good, good, sensitivity)


def test_the_widest_layer_is_ranked_without_overflow(core: NativeCore) -> None:
    scores = np.random.default_rng(0).standard_normal((1, 65536)).astype(np.float32)
    rank = core.ranks(scores)
    np.testing.assert_array_equal(rank, ranks(scores))
    np.testing.assert_array_equal(core.borda(rank, rank, 0.3), rank.astype(np.uint32) << 16)
    with pytest.raises(NativeError, match="invalid argument"):
        core.borda(np.zeros((1, 65537), np.int32), np.zeros((1, 65537), np.int32), 0.5)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(core: NativeCore, bad: float) -> None:
    scores = statistics(2, 16, 1).abs_sum
    scores[1, 5] = bad
    with pytest.raises(NativeError, match="not finite"):
        core.ranks(scores)
    with pytest.raises(NativeError, match="not finite"):
        core.top_k(scores, 3)
    for fusion in FUSIONS:
        with pytest.raises(NativeError, match="not finite"):
            core.select_neurons((scores, scores, 1.0), scores, 3, fusion=fusion, local="A")


@pytest.mark.parametrize("k", [0, 17])
def test_k_out_of_range_is_refused(core: NativeCore, k: int) -> None:
    scores = statistics(1, 16, 1).abs_sum
    with pytest.raises(NativeError, match="invalid argument"):
        core.top_k(scores, k)
    with pytest.raises(NativeError, match="invalid argument"):
        core.select_neurons((scores, scores, 1.0), scores, k, fusion="global", local="A")


@pytest.mark.parametrize(
    ("tokens", "tau"), [(0, 0.0), (-1, 5.0), (3, -1.0), (3, np.nan), (3, np.inf)]
)
def test_shrinkage_refuses_weights_without_meaning(
    core: NativeCore, tokens: float, tau: float
) -> None:
    scores = statistics(1, 4, 1).abs_sum
    with pytest.raises(NativeError, match="invalid argument"):
        core.shrinkage(scores, tokens, scores, tau)


@pytest.mark.parametrize("lam", [-0.1, 1.1, np.nan])
def test_borda_refuses_a_lambda_out_of_range(core: NativeCore, lam: float) -> None:
    scores = statistics(1, 4, 1).abs_sum
    with pytest.raises(NativeError, match="invalid argument"):
        core.select_neurons((scores, scores, 1.0), scores, 2, fusion="borda", local="A", lam=lam)


@pytest.mark.parametrize("fusion", ["borda", "local"])
def test_local_fusions_need_a_scored_token(core: NativeCore, fusion: str) -> None:
    scores = statistics(1, 4, 1).abs_sum
    with pytest.raises(NativeError, match="no scored token"):
        core.select_neurons((scores, scores, 0.0), scores, 2, fusion=fusion, local="A")


def test_only_the_local_fusion_does_without_a_prior(core: NativeCore) -> None:
    sums = statistics(2, 30, 5)
    arrays = sums.abs_sum, sums.sq_sum, 5.0
    local = core.local_scores(*arrays, "griffin")
    chosen = core.select_neurons(arrays, None, 4, fusion="local", local="griffin")
    np.testing.assert_array_equal(chosen, core.top_k(local, 4))
    with pytest.raises(NativeError, match="invalid argument"):
        core.select_neurons(arrays, None, 4, fusion="borda", local="griffin")
