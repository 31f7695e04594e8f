"""Which neurons to keep: local scores, ranks, fusion with the global prior, top-K. NumPy reference.

Legend: L layers (of a mixture of experts, rows: one an expert), F FFN width, K kept neurons, T
scored tokens; A, I, G and F are also names of the
priors. Larger scores are more important.

Every result is defined bit by bit, so that a port gives the same neurons:

* **Values** are float32. NaN and infinities are errors; -0.0 equals +0.0; denormals are numbers.
* **Ties** go to the lower index: of two equal scores the one of the lower index is more important,
  both in :func:`ranks` (it gets the higher rank) and in :func:`top_k` (it is kept first).
* **Ranks** of a layer are a permutation of 0..F-1, F-1 being the most important neuron.
* **Borda** is integer arithmetic: with w = floor(lam * 65536 + 0.5),
  s = (65536 - w) rank(local) + w rank(prior) in uint32, so F is at most 65536.
* **Experts**, where rows of a layer are many: T is that of a row, see :func:`routed_tokens`. A row
  without tokens ranks as its prior alone, one whose prior is the same everywhere as its local
  scores alone.
* **Shrinkage** is float64 arithmetic without fused multiply-add, rounded once to float32; what
  :func:`sensitivity_weights` gives, float64 square roots of a quotient, is multiplied before that.

No function depends on the algorithm behind a sort. Golden vectors: tests/golden/scoring.json.

Source: GLASS, arXiv 2508.14302; GRIFFIN, Dong et al. 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import GenerationError
from glass_export.keys import IndexArray, KeyArray, keys_of, rank_keys, top_k_keys
from glass_export.schema import suggest
from glass_export.selection import LocalForm

FloatArray = NDArray[np.float32]
WeightArray = NDArray[np.float64]

LAMBDA_ONE = 1 << 16
"""Borda weights are whole multiples of 1 / LAMBDA_ONE."""

_SQUARE_ROOTS = {1.0: 0, 0.5: 1, 0.25: 2}
"""How often a square root is taken for a sensitivity."""


class TokenSums(Protocol):
    """Sums over T scored tokens of abs(u_t) and u_t^2, u_t being the normalised FFN activation."""

    @property
    def abs_sum(self) -> FloatArray:
        """Sum of abs(u_t) [L,F]."""
        ...

    @property
    def sq_sum(self) -> FloatArray:
        """Sum of u_t^2 [L,F]."""
        ...

    @property
    def tokens(self) -> float:
        """Sum of the score weights, T."""
        ...


@dataclass(frozen=True, slots=True)
class RowSums:
    """TokenSums whose tokens are those of each row [L,1]."""

    abs_sum: FloatArray
    sq_sum: FloatArray
    tokens: WeightArray


def routed_tokens(sq_sum: NDArray[np.floating[Any]]) -> WeightArray:
    """Tokens that a row of sums is over, of sums of u_t^2 [L,F] with weights 0 and 1: [L,1].

    The squares of a unit vector add up to 1, so a row adds up to the number of its tokens.
    """
    totals: WeightArray = np.rint(sq_sum.sum(1, keepdims=True, dtype=np.float64))
    return totals


def local_scores(sums: TokenSums | RowSums, form: LocalForm) -> FloatArray:
    """Scores of the prompt's own neurons [L,F]; 0 in a row without tokens.

    Args:
        sums: Sums over the prompt's scored tokens.
        form: ``A`` mean abs(u_t), ``squared`` mean u_t^2, ``griffin`` sqrt(sum u_t^2).

    Raises:
        GenerationError: no token was scored, or an unknown form.
    """
    seen = np.asarray(sums.tokens) > 0
    if not seen.any():
        raise GenerationError(
            "local scores: no prompt token was scored, expected at least one; "
            "score more tokens, or use the global fusion"
        )
    tokens = np.where(seen, sums.tokens, 1.0).astype(np.float32)
    match form:
        case "A":
            return np.asarray(sums.abs_sum / tokens, np.float32)
        case "squared":
            return np.asarray(sums.sq_sum / tokens, np.float32)
        case "griffin":
            return np.sqrt(sums.sq_sum)
    raise GenerationError(f"local: got {form!r}; {suggest(form, list(get_args(LocalForm)))}")


def ranks(scores: FloatArray) -> IndexArray:
    """Rank of every neuron in its layer, 0..F-1; larger is more important, ties to the lower index.

    Shape: [L,F] -> [L,F].

    Raises:
        GenerationError: a score is NaN or infinite, or the shape is not [L,F].
    """
    return rank_keys(keys_of(scores))


def borda(local_ranks: IndexArray, prior_ranks: IndexArray, lam: float) -> KeyArray:
    """Weighted Borda count (1 - lam) rank(local) + lam rank(prior), in units of 1/65536 rank.

    The maximum a posteriori consensus of two rankings under a Mallows model with squared rank
    differences; see docs/method.md.

    Args:
        local_ranks: From :func:`ranks` [L,F].
        prior_ranks: From :func:`ranks` [L,F].
        lam: Weight of the prior, 0 to 1, rounded to a multiple of 1/65536.

    Raises:
        GenerationError: shapes differ, lam is out of range, or F is above 65536.
    """
    _same_shape(local_ranks, prior_ranks)
    if not 0.0 <= lam <= 1.0:
        raise GenerationError(f"lam: got {lam!r}, expected 0 (local only) to 1 (prior only)")
    if local_ranks.shape[1] > LAMBDA_ONE:
        raise GenerationError(f"borda: F is {local_ranks.shape[1]}, expected at most {LAMBDA_ONE}")
    weight = math.floor(lam * LAMBDA_ONE + 0.5)
    fused = local_ranks.view(np.uint32) * np.uint32(LAMBDA_ONE - weight)
    fused += prior_ranks.view(np.uint32) * np.uint32(weight)
    return fused


def sensitivity_weights(
    effect: FloatArray, activity: FloatArray, sensitivity: float
) -> WeightArray:
    """(F / G)^sensitivity [L,F], 0 where G is 0: how much an activation does to the loss.

    Args:
        effect: The prior F, mean squared effect on the loss [L,F].
        activity: The prior G, mean squared activation [L,F].
        sensitivity: 0.25, 0.5 or 1.

    Raises:
        GenerationError: shapes differ, another sensitivity, or a value is negative or not finite.
    """
    _same_shape(effect, activity)
    if sensitivity not in _SQUARE_ROOTS:
        raise GenerationError(f"sensitivity: got {sensitivity!r}, expected 0.25, 0.5 or 1")
    for name, values in (("F", effect), ("G", activity)):
        if not ((values >= 0) & (values < np.inf)).all():
            raise GenerationError(
                f"prior {name}: a value is negative or not finite, expected means of squares; the "
                "prior is damaged: export the model again"
            )
    weights = np.zeros(effect.shape, np.float64)
    np.divide(effect, activity, out=weights, where=activity > 0, dtype=np.float64)
    for _ in range(_SQUARE_ROOTS[sensitivity]):
        np.sqrt(weights, out=weights)
    return weights


def shrinkage(
    local_mean: FloatArray,
    tokens: float | WeightArray,
    prior: FloatArray,
    tau: float,
    weights: WeightArray | None = None,
) -> FloatArray:
    """(T L + tau G) / (T + tau): a short prompt leans on the prior, a long one on itself.

    Args:
        local_mean: Mean over the prompt's scored tokens, L [L,F].
        tokens: Number of scored tokens T, or that of each row [L,1]; 0 gives the prior.
        prior: The same mean over the null text, G [L,F].
        tau: Weight of the prior, in tokens; 0 gives the local mean.
        weights: Of :func:`sensitivity_weights`, to multiply the result with [L,F]; None for none.

    Raises:
        GenerationError: shapes differ, tau or tokens is negative, or both are 0.
    """
    _same_shape(local_mean, prior)
    fewest, most = float(np.min(tokens)), float(np.max(tokens))
    if not (fewest >= 0 and 0 <= tau < math.inf and most + tau > 0):
        raise GenerationError(
            f"shrinkage: got {fewest} scored tokens and tau {tau}, expected both to be 0 or more "
            "and their sum above 0; score more tokens or raise tau"
        )
    weight = np.where(np.asarray(tokens) + tau > 0, tau, 1.0)  # any is the prior alone
    fused = tokens * local_mean.astype(np.float64)
    fused += weight * prior.astype(np.float64)
    fused /= tokens + weight
    if weights is not None:
        fused *= weights
    return np.asarray(fused, np.float32)


def top_k(scores: FloatArray | KeyArray, k: int | Sequence[int]) -> IndexArray:
    """Indices of the K most important neurons of every layer, ties to the lower index.

    Args:
        scores: float32, or the uint32 of :func:`borda` [L,F].
        k: Neurons to keep, 1 to F, in every layer, or one number for each layer.

    Returns:
        int32 [L,K] with the largest K, each row ascending and without repetition. A row that keeps
        fewer is padded at its end with -1.

    Raises:
        GenerationError: a number of neurons is out of range or there are not L of them, a score is
            NaN or infinite, or the shape is not [L,F].
    """
    keys = keys_of(scores)
    layers, width = keys.shape
    counts = [k] * layers if isinstance(k, int) else list(k)
    if len(counts) != layers:
        raise GenerationError(
            f"K: got {len(counts)} numbers, expected one for each layer: {layers}"
        )
    for count in counts:
        if not 1 <= count <= width:
            raise GenerationError(f"K: got {count}, expected 1 to F = {width}")
    return top_k_keys(keys, counts)


def _same_shape(local: NDArray[np.generic], prior: NDArray[np.generic]) -> None:
    if local.shape != prior.shape:
        raise GenerationError(
            f"fusion: local scores are {list(local.shape)} and the prior is {list(prior.shape)}, "
            "expected the same [L,F]; the artifact's prior is of another model"
        )
