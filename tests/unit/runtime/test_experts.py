"""Mixtures of experts from export to answer: both targets, their driver, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import D_FF, EXPERTS, LAYERS, ROUTED, SHALLOW, tiny_model

from glass_export.artifact import Artifact
from glass_export.errors import UnsupportedModelError
from glass_export.plan import make_plan
from glass_export.recipe import Recipe
from glass_export.runtime.session import Session
from glass_export.verify.reference import REFERENCE_NAME, Reference

Exported = Callable[..., Path]
OWN = "target.custom_ops=true"
FORMS = [
    pytest.param(family, target, marks=() if (family, target) == ("qwen2_moe", "onnx")
                 else pytest.mark.slow)
    for family in ROUTED
    for target in ("onnx", "executorch")
]  # fmt: skip


@pytest.mark.parametrize(("family", "target"), FORMS)
def test_a_dense_answer_is_that_of_transformers(
    exported: Exported, family: str, target: str
) -> None:
    layers = SHALLOW[family]
    with Session.open(exported(family, target, OWN, layers=layers)) as session:
        ids, _ = session.text.encode_text("the quick brown fox")
        got = session.generate("the quick brown fox", max_new_tokens=12, density=1.0)
        sparse = session.generate("the quick brown fox", max_new_tokens=12, density=0.5, refresh=4)
    model, tokens = tiny_model(family, layers=layers), list(ids)
    for _ in range(12):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    wanted = tokens[len(ids) :]
    assert list(got.token_ids) == wanted[: wanted.index(1) if 1 in wanted else None]
    assert sparse.stats.kept_neurons == D_FF // 2


@pytest.fixture(scope="module")
def artifact(exported: Exported) -> Artifact:
    return Artifact.open(exported("qwen2_moe", "onnx", OWN, layers=SHALLOW["qwen2_moe"]))


def test_rows_are_experts_and_layers_without_any(artifact: Artifact) -> None:
    dims = artifact.manifest.model.dims
    assert (dims.layers, dims.rows, dims.expert_rows) == (2, EXPERTS + 1, EXPERTS + 1)
    assert {values.shape for values in artifact.prior().values()} == {(EXPERTS + 1, D_FF)}
    np.testing.assert_allclose(artifact.prior()["G"].sum(1), 1.0, rtol=1e-5)


def test_the_reference_has_a_prompt_that_leaves_experts_unused(artifact: Artifact) -> None:
    """Verification has passed with it, so sums of 0 are right, and its rows are chosen by prior."""
    assert artifact.manifest.verification is not None and artifact.manifest.verification["passed"]
    prompt = Reference.load(artifact.path / REFERENCE_NAME).prompts[0]
    unused = ~prompt.sq_sum.any(1)
    assert unused.sum() == EXPERTS - 2  # one token, two experts
    prior, kept = artifact.prior()[artifact.manifest.selection.prior], prompt.indices.shape[1]
    for row in unused.nonzero()[0]:
        best = np.argsort(-prior[row], kind="stable")[:kept]
        assert np.array_equal(prompt.indices[row], np.sort(best))


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_stock_operators_are_refused_before_anything_is_loaded(
    checkpoint: Callable[..., Path], recipe_of: Callable[..., Recipe], tmp_path: Path, target: str
) -> None:
    recipe = recipe_of(
        checkpoint("mixtral", LAYERS), f"target.name={target}", "target.custom_ops=false"
    )
    with pytest.raises(UnsupportedModelError, match=r"stock operators.*custom_ops=true"):
        make_plan(recipe, tmp_path)


def test_a_plan_counts_the_weights_of_all_experts_and_streams_none(
    checkpoint: Callable[..., Path], recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = recipe_of(checkpoint("mixtral", LAYERS), OWN)
    made = make_plan(recipe, tmp_path)
    assert made.parts["FFNs"] == 4 * LAYERS * EXPERTS * 3 * D_FF * 64
    streamed = make_plan(recipe, tmp_path, streamed=True)
    assert any("experts cannot be streamed" in problem for problem in streamed.problems)
