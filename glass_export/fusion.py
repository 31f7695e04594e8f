"""From sums over the prompt and the global priors to the neurons that are kept.

The arithmetic, and the legend of its letters, is in :mod:`glass_export.scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from glass_export.errors import GenerationError
from glass_export.keys import IndexArray, KeyArray
from glass_export.schema import suggest
from glass_export.scoring import (
    FloatArray,
    RowSums,
    TokenSums,
    WeightArray,
    borda,
    local_scores,
    ranks,
    routed_tokens,
    sensitivity_weights,
    shrinkage,
    top_k,
)
from glass_export.selection import Fusion, LocalForm, SelectionRecipe
from glass_export.spec import Statistic

SHRINKAGE_PAIRS: frozenset[tuple[LocalForm, Statistic]] = frozenset({("squared", "G"), ("A", "A")})
"""Local form and prior that are the same mean, of the prompt and of the null text."""


class Priors:
    """The global priors of a model and, computed once on first use, their ranks and weights.

    ``routed``: of a mixture of experts, where every row has a number of tokens of its own.
    """

    def __init__(self, scores: Mapping[Statistic, FloatArray], *, routed: bool = False) -> None:
        self.routed = routed
        self._scores = dict(scores)
        self._ranks: dict[Statistic, IndexArray] = {}
        self._weights: dict[float, WeightArray] = {}

    def scores(self, name: Statistic) -> FloatArray:
        """The prior [L,F]. Raises GenerationError when the artifact does not hold it."""
        if name not in self._scores:
            known: list[str] = list(self._scores)
            raise GenerationError(f"prior: {name!r} is not in the artifact; {suggest(name, known)}")
        return self._scores[name]

    def ranks(self, name: Statistic) -> IndexArray:
        """Ranks of the prior [L,F], see :func:`ranks`."""
        if name not in self._ranks:
            self._ranks[name] = ranks(self.scores(name))
        return self._ranks[name]

    def weights(self, sensitivity: float) -> WeightArray:
        """:func:`sensitivity_weights` of the priors F and G [L,F]."""
        if sensitivity not in self._weights:
            effect, activity = self.scores("F"), self.scores("G")
            self._weights[sensitivity] = sensitivity_weights(effect, activity, sensitivity)
        return self._weights[sensitivity]


def fuse(sums: TokenSums, priors: Priors, selection: SelectionRecipe) -> FloatArray | KeyArray:
    """One score per neuron [L,F] from the prompt and the prior, by ``selection.fusion``.

    Raises:
        GenerationError: the fusion's inputs are missing or do not fit, or a score is NaN.
    """
    fusion: Fusion = selection.fusion
    match fusion:
        case "global":
            return priors.scores(selection.prior)
        case "local":
            return prompt_scores(sums, priors, selection)
        case "borda":
            return borda(*_ranks(sums, priors, selection), selection.lam)
        case "shrinkage":
            return _shrink(sums, priors, selection)
    raise GenerationError(f"fusion: got {fusion!r}; {suggest(fusion, list(get_args(Fusion)))}")


def prompt_scores(sums: TokenSums, priors: Priors, selection: SelectionRecipe) -> FloatArray:
    """:func:`local_scores` [L,F]; an expert that the prompt did not use has those of the prior.

    Raises:
        GenerationError: see :func:`local_scores`.
    """
    scores = local_scores(_of_rows(sums, priors), selection.local)
    if not priors.routed:
        return scores
    return np.where(routed_tokens(sums.sq_sum) > 0, scores, priors.scores(selection.prior))


def _of_rows(sums: TokenSums, priors: Priors) -> TokenSums | RowSums:
    if not priors.routed:
        return sums
    return RowSums(sums.abs_sum, sums.sq_sum, routed_tokens(sums.sq_sum))


def _ranks(
    sums: TokenSums, priors: Priors, selection: SelectionRecipe
) -> tuple[IndexArray, IndexArray]:
    """Ranks of the prompt and of the prior [L,F]; where one says nothing, it is the other."""
    local_ranks = ranks(prompt_scores(sums, priors, selection))
    prior_ranks = priors.ranks(selection.prior)
    if not priors.routed:
        return local_ranks, prior_ranks
    scores = priors.scores(selection.prior)
    equal = scores.min(1, keepdims=True) == scores.max(1, keepdims=True)
    return local_ranks, np.where(equal, local_ranks, prior_ranks)


def _shrink(sums: TokenSums, priors: Priors, selection: SelectionRecipe) -> FloatArray:
    if (selection.local, selection.prior) not in SHRINKAGE_PAIRS:
        raise GenerationError(
            f"shrinkage: got local {selection.local!r} with prior {selection.prior!r}, which are "
            "on different scales; use local 'squared' with prior 'G', or local 'A' with prior 'A'"
        )
    prior = priors.scores(selection.prior)
    known = _of_rows(sums, priors)
    scored = np.any(np.asarray(known.tokens) > 0)
    local = local_scores(known, selection.local) if scored else np.zeros_like(prior)
    weights = priors.weights(selection.sensitivity) if selection.sensitivity else None
    return shrinkage(local, known.tokens, prior, selection.tau, weights)


def select_neurons(
    sums: TokenSums, priors: Priors, selection: SelectionRecipe, budgets: int | Sequence[int]
) -> IndexArray:
    """The neurons that ``selection`` keeps for this prompt: int32 [L,K], see :func:`top_k`.

    Args:
        sums: Over the prompt's scored tokens.
        priors: Of the model.
        selection: The rule; how many are kept is not read from it.
        budgets: Neurons that every layer keeps, as :func:`.spec.layer_budgets` gives them, or one
            number for all layers.

    Raises:
        GenerationError: see :func:`fuse` and :func:`top_k`.
    """
    return top_k(fuse(sums, priors, selection), budgets)
