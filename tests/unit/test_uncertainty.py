"""What two choices of neurons have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tiny_artifact
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from glass_export.artifact import ArtifactWriter
from glass_export.cli.app import app
from glass_export.errors import GenerationError
from glass_export.fusion import Priors, fuse, select_neurons
from glass_export.keys import IndexArray
from glass_export.runtime.base import LocalStatistics
from glass_export.scoring import FloatArray, local_scores, top_k
from glass_export.selection import SelectionRecipe
from glass_export.spec import STATISTICS
from glass_export.uncertainty import added, agreement, prior_agreement, turnover

RULES = {
    "a-glass": SelectionRecipe(mode="paper-a"),
    "griffin": SelectionRecipe(mode="griffin"),
    "global": SelectionRecipe(fusion="global", prior="F"),
    "shrinkage": SelectionRecipe(fusion="shrinkage", local="squared", prior="G", tau=4.0),
    "sensitive": SelectionRecipe(
        fusion="shrinkage", local="squared", prior="G", tau=4.0, sensitivity=0.5
    ),
}


def f32(values: Any) -> FloatArray:
    return np.asarray(values, np.float32)


def choice(*rows: list[int]) -> IndexArray:
    width = max(map(len, rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)


@st.composite
def models(draw: st.DrawFn) -> tuple[LocalStatistics, Priors, list[int]]:
    """Statistics and priors of few values, so that ties are common, and neurons by layer."""
    layers, width = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = [f32(rng.integers(0, 9, (layers, width)) / 8) for _ in range(6)]
    sums = LocalStatistics(scores[4], scores[5], float(draw(st.integers(1, 20))))
    counts = draw(st.lists(st.integers(1, width), min_size=layers, max_size=layers))
    return sums, Priors(dict(zip(STATISTICS, scores, strict=False))), counts


@st.composite
def choices(draw: st.DrawFn, layers: int = 3) -> IndexArray:
    rows = [draw(st.sets(st.integers(0, 15), min_size=1)) for _ in range(layers)]
    return choice(*map(sorted, rows))


@pytest.mark.parametrize("name", RULES)
@given(models())
def test_agreement_is_the_share_that_both_sides_keep(
    name: str, model: tuple[LocalStatistics, Priors, list[int]]
) -> None:
    sums, priors, counts = model
    rule = RULES[name]
    weights = priors.weights(rule.sensitivity) if rule.sensitivity else 1.0
    local = f32(local_scores(sums, rule.local) * weights)
    prior = f32(priors.scores(rule.prior) * weights)
    rows = [top_k(x, counts) for x in (fuse(sums, priors, rule), local, prior)]
    for layer, share in enumerate(agreement(sums, priors, rule, counts)):
        kept, by_prompt, by_prior = ({*row[layer].tolist()} - {-1} for row in rows)
        assert share == len(kept & by_prompt & by_prior) / counts[layer]


@pytest.mark.parametrize("name", ["a-glass", "shrinkage", "sensitive"])
def test_a_prompt_like_the_prior_agrees_with_it(name: str) -> None:
    scores = f32(np.random.default_rng(0).random((3, 40)))
    sums = LocalStatistics(7 * scores, 7 * scores, 7.0)
    priors = Priors({"A": scores, "G": scores, "F": scores**3})
    assert agreement(sums, priors, RULES[name], 10).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["a-glass", "shrinkage", "sensitive"])
def test_a_prompt_against_the_prior_agrees_in_nothing(name: str) -> None:
    rising = f32([[1, 2, 3, 4, 5, 6]])
    sums = LocalStatistics(rising, rising, 1.0)
    priors = Priors({"A": 7 - rising, "G": 7 - rising, "F": 7 - rising})
    assert agreement(sums, priors, RULES[name], 3).tolist() == [0]
    assert agreement(sums, priors, RULES[name], 6).tolist() == [1]


def test_agreement_counts_what_the_fused_score_keeps() -> None:
    """A neuron that is second on both sides can lose to the first of each."""
    local, prior = f32([[9, 5, 0, 1]]), f32([[0, 5, 9, 1]])
    sums = LocalStatistics(local, local, 1.0)
    rule = SelectionRecipe(fusion="shrinkage", local="squared", prior="G", tau=1.0)
    priors = Priors({"G": prior})
    assert select_neurons(sums, priors, rule, 2).tolist() == [[0, 1]]
    assert agreement(sums, priors, rule, 2).tolist() == [0.5]


def test_agreement_needs_a_scored_token() -> None:
    nothing = LocalStatistics(f32([[0, 0]]), f32([[0, 0]]), 0.0)
    with pytest.raises(GenerationError, match="no prompt token was scored"):
        agreement(nothing, Priors({"G": f32([[1, 2]])}), RULES["shrinkage"], 1)


@given(choices(), choices())
def test_turnover_is_the_share_of_new_neurons(old: IndexArray, new: IndexArray) -> None:
    shares = turnover(old, new)
    for layer, (before, after) in enumerate(zip(old.tolist(), new.tolist(), strict=True)):
        kept = {*after} - {-1}
        assert added(old, new)[layer] == len(kept - {*before})
        assert shares[layer] == len(kept - {*before}) / len(kept)


@given(choices())
def test_turnover_of_the_same_choice_is_none(one: IndexArray) -> None:
    padded = np.pad(one, ((0, 0), (0, 3)), constant_values=-1)
    assert turnover(one, one).tolist() == turnover(one, padded).tolist() == [0, 0, 0]
    assert turnover(padded, one).tolist() == [0, 0, 0]


def test_turnover_by_hand() -> None:
    old, new = choice([0, 1, 2, 3], [4]), choice([0, 5], [3])
    assert turnover(old, new).tolist() == [0.5, 1.0]
    assert turnover(new, old).tolist() == [0.75, 1.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (choice([0], [1]), choice([0]), r"shapes \[2, 1\] and \[1, 1\]"),
        (np.array([0, 1], np.int32), choice([0]), r"shapes \[2\] and \[1, 1\]"),
        (choice([0], [1]), choice([0], []), "layer 1 keeps no neuron"),
    ],
)
def test_turnover_refuses(old: IndexArray, new: IndexArray, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        turnover(old, new)


@given(models())
def test_agreement_of_priors_is_a_symmetric_share(
    model: tuple[LocalStatistics, Priors, list[int]],
) -> None:
    _, priors, counts = model
    shares = prior_agreement(priors, counts)
    assert shares.shape == (4, 4, len(counts))
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_array_equal(shares, shares.swapaxes(0, 1))
    assert (shares[np.arange(4), np.arange(4)] == 1).all()
    turned = turnover(*(top_k(priors.scores(name), counts) for name in ("A", "F")))
    np.testing.assert_allclose(shares[0, 3], 1 - turned)


def test_agreement_of_priors_by_hand() -> None:
    rising = f32([[1, 2, 3, 4], [1, 2, 3, 4]])
    other = f32([[4, 3, 2, 1], [1, 2, 3, 4]])
    shares = prior_agreement(Priors({"A": rising, "I": rising, "G": other, "F": rising}), 2)
    assert shares[0, 1].tolist() == [1, 1]
    assert shares[0, 2].tolist() == shares[2, 3].tolist() == [0, 1]
    assert prior_agreement(Priors(dict.fromkeys(STATISTICS, rising)), (1, 4)).min() == 1


def test_agreement_of_priors_needs_all_of_them() -> None:
    with pytest.raises(GenerationError, match="'I' is not in the artifact"):
        prior_agreement(Priors({"A": f32([[1, 2]])}), 1)


def shown(folder: Path, selection: SelectionRecipe) -> str:
    """What inspect prints of a tiny artifact whose priors A and G are opposed in layer 0."""
    rising = f32([[1, 2, 3, 4, 5, 6]] * 2)
    opposed = f32([[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]])
    with ArtifactWriter(folder) as writer:
        tiny_artifact.fill(writer.path)
        tensors = {"A": rising, "I": rising, "G": opposed, "F": opposed}
        (writer.path / "prior.safetensors").write_bytes(safetensors.numpy.save(tensors))
        writer.commit(replace(tiny_artifact.manifest(), selection=selection))
    result = CliRunner().invoke(app, ["inspect", str(folder)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_inspect_shows_the_agreement_of_priors(tmp_path: Path) -> None:
    lines = shown(tmp_path / "a", SelectionRecipe(density=0.5)).splitlines()
    title = next(i for i, line in enumerate(lines) if "agreement of the priors" in line)
    assert "density 0.5" in lines[title]
    cells = [line.split() for line in lines[title + 2 : title + 6]]
    assert [row[0] for row in cells] == list(STATISTICS)
    assert cells[0][1:] == ["100%", "100%", "50%", "50%", "67%", "33%", "0"]
    assert cells[2][1:] == ["50%", "50%", "100%", "100%", "67%", "33%", "0"]


def test_inspect_of_a_dense_artifact_has_nothing_to_compare(tmp_path: Path) -> None:
    assert "agreement of the priors" not in shown(tmp_path / "a", SelectionRecipe(density=1.0))
