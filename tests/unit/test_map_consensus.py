"""What the fusions estimate: the statements of docs/method.md about them, checked on small cases.

Legend: F FFN width, l local ranks, p ranks of the prior, b = (1 - lam) l + lam p what Borda sorts
by. A centre is a permutation of 0..F-1, larger being more important; u are utilities, v = exp(u)
the strengths of neurons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from glass_export.keys import KeyArray, rank_keys
from glass_export.scoring import (
    LAMBDA_ONE,
    FloatArray,
    borda,
    sensitivity_weights,
    shrinkage,
    top_k,
)

Ranks = NDArray[np.int32]
Values = NDArray[np.float64]
Centres = NDArray[np.int64]


@dataclass(frozen=True)
class Vote:
    """Two rankings [F] and the prior's weight."""

    local: Ranks
    prior: Ranks
    lam: float

    @property
    def width(self) -> int:
        return self.local.size

    @property
    def scores(self) -> KeyArray:
        """Borda's [1,F]: 65536 b, exactly when lam is a multiple of 1/65536."""
        return borda(self.local[np.newaxis], self.prior[np.newaxis], self.lam)

    @property
    def consensus(self) -> Ranks:
        """Borda's ranks [F]."""
        return rank_keys(self.scores)[0]

    def total(self, of: Callable[[Ranks], Any]) -> Any:
        """``of`` both rankings, weighted; of integers, 65536 times which is exact."""
        return (1 - self.lam) * of(self.local) + self.lam * of(self.prior)


@st.composite
def votes(draw: st.DrawFn, steps: int = LAMBDA_ONE, widest: int = 6) -> Vote:
    """Any rankings of 3 to ``widest`` neurons; lam is a multiple of 1 / ``steps``."""
    order = st.permutations(range(draw(st.integers(3, widest))))
    local, prior = (np.array(draw(order), np.int32) for _ in range(2))
    weight = draw(st.integers(0, steps) | st.sampled_from([0, steps // 2, steps]))
    return Vote(local, prior, weight / steps)


@cache
def centres(width: int) -> Centres:
    """All of them [F!,F]."""
    return np.array([*permutations(range(width))])


def spearman(width: int) -> Callable[[Ranks], Centres]:
    """Of every centre, the sum of squared differences of ranks [F!]."""
    return lambda ranking: np.asarray(((centres(width) - ranking) ** 2).sum(1))


def kendall(width: int) -> Callable[[Ranks], Centres]:
    """Of every centre, the pairs that it orders otherwise [F!]."""
    s = centres(width)

    def distance(r: Ranks) -> Centres:
        pairs = combinations(range(width), 2)
        return np.array([(s[:, i] < s[:, j]) != (r[i] < r[j]) for i, j in pairs]).sum(0)

    return distance


def nearest(vote: Vote, distance: Callable[[int], Callable[[Ranks], Centres]]) -> set[Any]:
    """Centres of the smallest weighted distance, which are the most probable ones."""
    costs = vote.total(distance(vote.width))
    return {*map(tuple, centres(vote.width)[costs == costs.min()].tolist())}


@given(votes())
def test_borda_is_the_map_consensus_of_mallows_with_spearmans_distance(vote: Vote) -> None:
    best, width, b = nearest(vote, spearman), vote.width, vote.scores[0].astype(np.int64)
    assert tuple(vote.consensus.tolist()) in best
    assert best == {
        tuple(s.tolist()) for s in centres(width) if (np.diff(b[np.argsort(s)]) >= 0).all()
    }
    for k in range(1, width + 1):
        first = np.flatnonzero(vote.consensus >= width - k)
        assert top_k(vote.scores, k)[0].tolist() == first.tolist()


@pytest.mark.parametrize("distance", [spearman, kendall])
def test_the_constant_of_mallows_is_the_same_for_every_centre(distance: Any) -> None:
    constants = sum(np.exp(-0.3 * distance(4)(ranking)) for ranking in centres(4))
    np.testing.assert_allclose(constants, constants[0], rtol=1e-12)


@given(votes(steps=8, widest=5))
def test_bordas_k_neurons_are_the_most_probable_set(vote: Vote) -> None:
    """A centre s has probability exp(2 theta sum s b): with 2 theta = 8 log 2, whole numbers."""
    scores = (vote.scores[0] // (LAMBDA_ONE // 8)).tolist()
    for k in range(1, vote.width):
        chances: Counter[tuple[int, ...]] = Counter()
        for s in centres(vote.width).tolist():
            first = tuple(j for j, rank in enumerate(s) if rank >= vote.width - k)
            chances[first] += 2 ** sum(rank * b for rank, b in zip(s, scores, strict=True))
        assert chances[tuple(top_k(vote.scores, k)[0].tolist())] == max(chances.values())


@given(votes())
def test_with_kendalls_distance_the_heavier_ranking_decides_alone(vote: Vote) -> None:
    best = nearest(vote, kendall)
    if vote.lam == 0.5:
        assert tuple(vote.consensus.tolist()) in best
    else:
        assert best == {tuple((vote.local if vote.lam < 0.5 else vote.prior).tolist())}


def log_likelihood(u: Values, ranking: Ranks) -> float:
    """Of Plackett-Luce: neurons are drawn without replacement, the most important one first."""
    drawn = u[np.argsort(-ranking)]
    return float(sum(x - np.log(np.exp(drawn[i:]).sum()) for i, x in enumerate(drawn)))


def strengths(vote: Vote) -> Values:
    """Of Plackett-Luce, of the maximum likelihood and of sum 1, where they exist.

    Source: the MM algorithm of Hunter, Annals of Statistics 32, 2004.
    """
    v = np.ones(vote.width)

    def drawn(ranking: Ranks) -> Values:
        return np.asarray(ranking > 0, np.float64)  # the last one is left over

    def exposure(ranking: Ranks) -> Values:
        order = np.argsort(-ranking)
        left = np.cumsum(v[order][::-1])[:0:-1]
        out = np.empty(v.size)
        out[order[:-1]] = np.cumsum(1 / left)
        out[order[-1]] = out[order[-2]]
        return out

    for _ in range(2000):
        v = vote.total(drawn) / vote.total(exposure)
        v /= v.sum()
    return v


def opposed(lam: float) -> Vote:
    """The prompt ranks neurons 0, 1, 2, and the prior 2, 1, 0."""
    return Vote(np.array([2, 1, 0], np.int32), np.array([0, 1, 2], np.int32), lam)


@pytest.mark.parametrize(("lam", "expected"), [(0.5, [1, 2**0.5, 1]), (0.4, [2, 2, 1])])
def test_plackett_luce_of_opposed_rankings(lam: float, expected: list[float]) -> None:
    v = strengths(opposed(lam))
    np.testing.assert_allclose(v, np.divide(expected, sum(expected)), rtol=1e-9)
    drift = [
        opposed(lam).total(lambda r, d=d: log_likelihood(np.log(v) + d, r))
        for d in 1e-3 * np.eye(3)
    ]
    assert max(drift) < opposed(lam).total(lambda r: log_likelihood(np.log(v), r))


@pytest.mark.parametrize("lam", [0.42, 0.45, 0.49])
def test_borda_is_not_the_consensus_of_plackett_luce(lam: float) -> None:
    vote = opposed(lam)
    assert vote.consensus.tolist() == [2, 1, 0]
    v = strengths(vote)
    assert v[1] > v[0] > v[2]


@given(votes(), st.data())
def test_plackett_luce_never_turns_what_both_rankings_say(vote: Vote, data: st.DataObject) -> None:
    """Where both put i above j and u puts j above i, exchanging the two is more likely."""
    u = np.array(data.draw(st.permutations([0.5 * j for j in range(vote.width)])))
    for i, j in permutations(range(vote.width), 2):
        if vote.local[i] > vote.local[j] and vote.prior[i] > vote.prior[j] and u[i] < u[j]:
            turned = u.copy()
            turned[[i, j]] = u[[j, i]]
            for ranking in (vote.local, vote.prior):
                assert log_likelihood(turned, ranking) > log_likelihood(u, ranking)
            assert vote.consensus[i] > vote.consensus[j]


@given(votes())
def test_plackett_luce_near_equal_utilities_counts_savage_scores(vote: Vote) -> None:
    step, width = 1e-5, vote.width
    savage = 1 - np.cumsum(1 / np.arange(width, 0, -1))  # of the first neuron, the second, ...
    slope = [
        vote.total(lambda r, d=d: log_likelihood(d, r) - log_likelihood(-d, r)) / (2 * step)
        for d in step * np.eye(width)
    ]
    np.testing.assert_allclose(slope, vote.total(lambda r: savage[width - 1 - r]), atol=1e-6)


def test_savage_scores_are_not_far_from_ranks() -> None:
    width = 100_000
    savage = 1 - np.cumsum(1 / np.arange(width, 0, -1))
    assert np.corrcoef(savage, np.arange(width, 0, -1))[0, 1] == pytest.approx(3**0.5 / 2, abs=1e-3)


@given(votes())
def test_borda_is_the_map_order_of_plackett_luce_read_in_pairs(vote: Vote) -> None:
    """Every pair once, i above j with probability v_i / (v_i + v_j); normal prior on utilities."""
    b, u, width = vote.scores[0] / LAMBDA_ONE, np.zeros(vote.width), vote.width
    for _ in range(30):  # Newton's method; the posterior is concave
        wins = 1 / (1 + np.exp(u - u[:, np.newaxis]))
        np.fill_diagonal(wins, 0)
        curvature = wins * wins.T
        gradient = b - wins.sum(1) - u
        hessian = curvature - np.diag(curvature.sum(1)) - np.eye(width)
        u -= np.linalg.solve(hessian, gradient)
    assert np.abs(gradient).max() < 1e-12
    for i, j in combinations(range(width), 2):
        assert np.sign(np.round(u[i] - u[j], 10)) == np.sign(b[i] - b[j])


def f32(*values: float) -> FloatArray:
    return np.array([values], np.float32)


@pytest.mark.parametrize("tau", [8.0, 64.0])
@pytest.mark.parametrize(("count", "tokens"), [(0, 10), (7, 10), (30, 40)])
def test_shrinkage_is_the_posterior_mean_of_a_dirichlet_prior(
    tau: float, count: int, tokens: int
) -> None:
    """Two neurons, of which tokens choose one: the mean is integrated on a grid."""
    share, prior = (np.arange(20_000) + 0.5) / 20_000, 0.25
    log_density = (tau * prior + count - 1) * np.log(share)
    log_density += (tau * (1 - prior) + tokens - count - 1) * np.log1p(-share)
    density = np.exp(log_density - log_density.max())
    mean = (share * density).sum() / density.sum()
    local = count / tokens
    fused = shrinkage(f32(local, 1 - local), tokens, f32(prior, 1 - prior), tau)
    np.testing.assert_allclose(fused[0], [mean, 1 - mean], rtol=1e-5)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(1, 500))
def test_shrinkage_is_the_best_linear_estimate(noise: float, spread: float, tokens: int) -> None:
    """Squared error of (1 - w) G + w L, where L has variance noise / T around a mean of variance
    spread around G.
    """

    def error(w: Values) -> Values:
        return (1 - w) ** 2 * spread + w**2 * noise / tokens

    weight = shrinkage(f32(1), tokens, f32(0), noise / spread)[0].astype(np.float64)
    assert error(weight)[0] <= error(np.linspace(0, 1, 201)).min() * (1 + 1e-6)


def test_the_squared_effect_on_the_loss_is_twice_the_divergence() -> None:
    """To second order in the part of the activation that is left out, on the model's own text."""
    rng = np.random.default_rng(0)
    head, h, part = rng.normal(size=(7, 4)), rng.normal(size=4), 1e-3

    def log_p(hidden: Values) -> Values:
        z = head @ hidden
        return np.asarray(z - np.log(np.exp(z).sum()))

    p = np.exp(log_p(h))
    effects = h * (p @ head - head)  # h times the gradient of -log p(y), for every token y
    for j, fisher in enumerate(p @ effects**2):
        less = h.copy()
        less[j] *= 1 - part
        divergence = p @ (log_p(h) - log_p(less))
        np.testing.assert_allclose(divergence, part**2 * fisher / 2, rtol=1e-2)


def test_full_sensitivity_without_a_prompt_is_the_fisher_prior() -> None:
    effect, activity = f32(3, 0.5, 0, 2), f32(0.25, 0.5, 0.125, 1e-3)
    weights = sensitivity_weights(effect, activity, 1.0)
    np.testing.assert_allclose(shrinkage(f32(0, 0, 0, 0), 0, activity, 64.0, weights), effect)
