"""Methods, their labels, and what a sweep makes of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from glass_export.errors import EvaluationError, RecipeError
from glass_export.evaluate.methods import METHOD_NAMES, Method, overlap
from glass_export.evaluate.sweep import STANDARD, EvalSettings, Sweep
from glass_export.recipe import SelectionRecipe

AUTO = SelectionRecipe(fusion="shrinkage", local="squared", prior="G", tau=64.0, refresh=8)


def rows(*methods: str, usual: float = 0.5, **sweep: Any) -> list[Method]:
    return [*Sweep(methods=methods, **sweep).expand(usual, AUTO)]


def labels(*methods: str, **sweep: Any) -> list[str]:
    return [row.label for row in rows(*methods, **sweep)]


def test_a_sweep_is_a_cross_product_in_the_order_given() -> None:
    assert labels("griffin", "oracle", density=(0.5, 0.3), refresh=(0, 32)) == [
        "griffin 0.5", "griffin 0.5 refresh 32", "griffin 0.3", "griffin 0.3 refresh 32",
        "oracle 0.5", "oracle 0.5 refresh 32", "oracle 0.3", "oracle 0.3 refresh 32",
    ]  # fmt: skip


def test_settings_reach_the_methods_that_have_them() -> None:
    assert labels("griffin", "a-glass", lam=(0.3, 0.5)) == [
        "griffin 0.5", "a-glass 0.5 lam 0.3", "a-glass 0.5",
    ]  # fmt: skip
    assert labels("shrinkage", "a-glass", tau=(16.0,)) == ["shrinkage 0.5 tau 16.0", "a-glass 0.5"]
    assert labels("global", "griffin", prompt_tokens=(8,)) == ["global 0.5", "griffin 0.5 prompt 8"]
    assert labels("griffin", "a-glass", prior_tokens=(512, 1024), prior_text=("template",)) == [
        "griffin 0.5", "a-glass 0.5 prior template 512", "a-glass 0.5 prior template 1024",
    ]  # fmt: skip


def test_a_changed_setting_changes_the_rule() -> None:
    (row,) = rows("a-glass", lam=(0.25,), dense_start=(4,))
    assert row.selection.lam == 0.25 and row.selection.dense_start == 4
    assert row.selection.fusion == "borda" and row.selection.mode == "fixed"


def test_auto_keeps_its_own_settings_until_they_are_swept() -> None:
    (row,) = rows("auto", usual=0.3)
    assert (row.selection.tau, row.selection.refresh, row.label) == (64.0, 8, "auto 0.3 refresh 8")
    assert labels("auto", refresh=(0,), tau=(64.0,)) == ["auto 0.5"]


def test_every_method_has_one_row_and_its_own_label() -> None:
    found = labels(*METHOD_NAMES)
    assert len(set(found)) == len(found) == len(METHOD_NAMES)
    assert labels("dense", "dense", density=(0.5, 0.3)) == ["dense"]
    assert labels("griffin", density=(1.0,)) == ["griffin"]
    assert set(STANDARD) <= set(METHOD_NAMES)


@pytest.mark.parametrize(
    ("methods", "sweep", "message"),
    [
        (["grifin"], {}, "did you mean 'griffin'?"),
        ([], {}, "methods: got none"),
        (["griffin"], {"lam": (0.5,)}, "lam: none of the methods griffin .* fusion is borda"),
        (["a-glass", "oracle"], {"tau": (8.0,)}, "tau: none of the methods a-glass, oracle"),
        (["oracle"], {"prompt_tokens": (8,)}, "prompt_tokens: none .* scores the prompt"),
        (["griffin"], {"prior_tokens": (512,)}, "prior_tokens: none .* uses a prior"),
        (["griffin"], {"prior_text": ("template",)}, "prior_text: none .* uses a prior"),
        (["a-glass"], {"prior_text": ("novel",)}, "prior text: got 'novel'"),
        (["griffin"], {"prompt_tokens": (0,)}, "prompt_tokens: got 0, expected at least 1"),
    ],
)
def test_bad_combinations_are_refused(methods: list[str], sweep: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        rows(*methods, **sweep)


@pytest.mark.parametrize("sweep", [{"density": (1.5,)}, {"lam": (2.0,)}, {"refresh": (-1,)}])
def test_values_out_of_range_are_refused(sweep: Any) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"selection.{next(iter(sweep))}: got")):
        rows("a-glass", **sweep)


def test_auto_needs_a_rule() -> None:
    with pytest.raises(EvaluationError, match="'auto' is the rule that an export has chosen"):
        Sweep(methods=("auto",)).expand(0.5, None)


def test_large_vocabularies_are_compared_at_every_fourth_step(settings_of: Any) -> None:
    settings: EvalSettings = settings_of("griffin")
    assert (settings.every_of(49_152), settings.every_of(262_144)) == (1, 4)
    assert settings_of("griffin", every=2).every_of(262_144) == 2
    with pytest.raises(EvaluationError, match="every: got 0"):
        settings_of("griffin", every=0)


def test_overlap_counts_only_what_a_layer_keeps() -> None:
    activity = np.array([[4, 3, 2, 1], [1, 2, 3, 4]], np.float32)
    chosen = np.array([[0, 2, 3], [3, -1, -1]], np.int32)
    np.testing.assert_allclose(overlap(chosen, activity), [2 / 3, 1.0])
