"""How sure a choice of neurons is: what local scores, priors and earlier choices have in common.

By chance two choices of a share d of the neurons have that share d of them in common. Legend: L
layers, F FFN width, K kept neurons of the layer that keeps most; the rows of other layers end in
padding, -1. A, I, G and F are also names of the priors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import GenerationError
from glass_export.fusion import Priors, fuse, prompt_scores
from glass_export.keys import IndexArray
from glass_export.scoring import TokenSums, top_k
from glass_export.selection import SelectionRecipe
from glass_export.spec import STATISTICS

ShareArray = NDArray[np.float64]
CountArray = NDArray[np.int64]
MaskArray = NDArray[np.bool_]


def agreement(
    sums: TokenSums, priors: Priors, selection: SelectionRecipe, budgets: int | Sequence[int]
) -> ShareArray:
    """Share of the chosen neurons that local scores alone and the prior alone would choose, too.

    Scores are those that the rule fuses: of ``selection.local`` and ``selection.prior``, both
    multiplied by the weights of its sensitivity.

    Args:
        sums: Over the prompt's scored tokens.
        priors: Of the model.
        selection: The rule.
        budgets: Neurons of every layer, or one number for all; see :func:`.scoring.top_k`.

    Returns:
        Shares from 0 to 1 by layer [L].

    Raises:
        GenerationError: no token was scored, or see :func:`.fusion.select_neurons`.
    """
    local, prior = prompt_scores(sums, priors, selection), priors.scores(selection.prior)
    if selection.sensitivity:
        weights = priors.weights(selection.sensitivity)
        local, prior = ((scores * weights).astype(np.float32) for scores in (local, prior))
    width = prior.shape[1]
    chosen, by_prompt, by_prior = (
        _members(top_k(scores, budgets), width)
        for scores in (fuse(sums, priors, selection), local, prior)
    )
    return _share(chosen & by_prompt & by_prior, chosen)


def added(old: IndexArray, new: IndexArray) -> CountArray:
    """Number of neurons of a choice that are not in the one before it, by layer [L].

    Args:
        old: The earlier choice [L,K].
        new: The later one [L,K']; K' need not be K.

    Raises:
        GenerationError: the choices are not of one number of layers.
    """
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new):
        raise GenerationError(
            f"turnover: got choices of shapes {list(old.shape)} and {list(new.shape)}, expected "
            "[L,K] twice with one L; compare choices of one model"
        )
    width = int(max(old.max(initial=-1), new.max(initial=-1))) + 1
    return np.asarray((_members(new, width) & ~_members(old, width)).sum(1), np.int64)


def turnover(old: IndexArray, new: IndexArray) -> ShareArray:
    """Share of the neurons of a choice that are not in the one before it; see :func:`added`.

    Returns:
        Shares from 0 (nothing was added) to 1 (all are new) by layer [L].

    Raises:
        GenerationError: as :func:`added`, or a layer of ``new`` keeps no neuron.
    """
    kept = (new >= 0).sum(-1)
    if not kept.all():
        raise GenerationError(
            f"turnover: layer {np.argmin(kept)} keeps no neuron, expected at least one; give "
            "choices as select_neurons makes them"
        )
    return np.asarray(added(old, new) / kept, np.float64)


def prior_agreement(priors: Priors, budgets: int | Sequence[int]) -> ShareArray:
    """Share of the neurons that two priors, each alone, would both choose.

    It is what can be said of an artifact without a prompt: where the statistics name the same
    neurons, it matters little which of them a rule uses.

    Args:
        priors: Of the model, with all of STATISTICS.
        budgets: As in :func:`agreement`.

    Returns:
        Shares [4,4,L], in the order of STATISTICS twice; symmetric, 1 on the diagonal.

    Raises:
        GenerationError: a prior is missing, or see :func:`.scoring.top_k`.
    """
    choices = [top_k(priors.scores(name), budgets) for name in STATISTICS]
    width = priors.scores(STATISTICS[0]).shape[1]
    members = [_members(choice, width) for choice in choices]
    return np.array([[_share(one & other, one) for other in members] for one in members])


def _members(choice: IndexArray, width: int) -> MaskArray:
    """A choice [L,K] as a mask [L,F]; padding falls into a column that is dropped."""
    mask = np.zeros((len(choice), width + 1), np.bool_)
    mask[np.arange(len(choice))[:, np.newaxis], choice] = True
    return mask[:, :width]


def _share(part: MaskArray, whole: MaskArray) -> ShareArray:
    """How much of each row of ``whole`` is in ``part`` [L]; every row of ``whole`` holds some."""
    return np.asarray(part.sum(1) / whole.sum(1), np.float64)
