"""Choices of neurons for experts: tokens by row, and rows of which one side knows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from glass_export import scoring
from glass_export.errors import GenerationError
from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import LocalStatistics
from glass_export.selection import Fusion


def expert_sums() -> LocalStatistics:
    """Two experts of four neurons: two tokens went through the first one, none through another."""
    squares = np.array([[1.2, 0.5, 0.2, 0.1], [0, 0, 0, 0]], np.float32)
    return LocalStatistics(np.sqrt(squares), squares, 2.0)


def test_rows_of_experts_have_tokens_of_their_own() -> None:
    sums = LocalStatistics(np.ones((2, 4), np.float32), np.full((2, 4), 0.75, np.float32), 9.0)
    assert scoring.routed_tokens(sums.sq_sum).tolist() == [[3.0], [3.0]]
    assert scoring.routed_tokens(expert_sums().sq_sum).tolist() == [[2.0], [0.0]]


@pytest.mark.parametrize("fusion", ["borda", "shrinkage", "local", "global"])
@pytest.mark.parametrize("tau", [0.0, 64.0])
def test_the_prior_alone_chooses_for_an_expert_that_the_prompt_did_not_use(
    fusion: Fusion, tau: float
) -> None:
    prior = np.array([[0.1, 0.1, 0.1, 0.7], [0.1, 0.4, 0.2, 0.3]], np.float32)
    rule = SelectionRecipe(fusion=fusion, local="squared", prior="G", tau=tau)
    chosen = select_neurons(expert_sums(), Priors({"G": prior}, routed=True), rule, 2)
    assert chosen[1].tolist() == [1, 3]
    if fusion == "local":
        assert chosen[0].tolist() == [0, 1]


@pytest.mark.parametrize("fusion", ["borda", "shrinkage"])
def test_the_prompt_alone_chooses_for_an_expert_that_no_null_text_used(fusion: Fusion) -> None:
    squares = np.array([[0.1, 0.2, 0.6, 1.1]], np.float32)
    sums = LocalStatistics(np.sqrt(squares), squares, 2.0)
    priors = Priors({"G": np.full((1, 4), 0.25, np.float32)}, routed=True)
    rule = SelectionRecipe(fusion=fusion, local="squared", prior="G", lam=0.9)
    assert select_neurons(sums, priors, rule, 2).tolist() == [[2, 3]]


def test_experts_need_a_scored_token_as_layers_do() -> None:
    nothing = LocalStatistics.zeros(2, 4)
    priors = Priors({"A": np.ones((2, 4), np.float32)}, routed=True)
    with pytest.raises(GenerationError, match="no prompt token was scored"):
        select_neurons(nothing, priors, SelectionRecipe(mode="paper-a"), 2)
