"""What a request makes of the artifact's rule."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from glass_export.errors import GenerationError
from glass_export.runtime.request import checked_selection
from glass_export.selection import PRESETS, RULES, Mode, SelectionRecipe
from glass_export.spec import ModelDims

DIMS = ModelDims(layers=4, d_model=8, d_ff=16, heads=1, kv_heads=1, head_dim=8, vocab_size=9)
OWN = SelectionRecipe(mode="auto", tau=32.0, sensitivity=0.5, dense_layers=(3,), refresh=8)


def selected(**wanted: Any) -> SelectionRecipe:
    return checked_selection(OWN, DIMS, **wanted)


def test_nothing_wanted_is_the_artifacts_rule() -> None:
    assert selected() == selected(mode="auto") == selected(mode=None, tau=None) == OWN
    assert selected(density=0.25, refresh=0) == replace(OWN, density=0.25, refresh=0)


def test_refresh_may_be_a_word() -> None:
    assert selected(refresh="auto") == replace(OWN, refresh="auto")
    assert selected(refresh="off") == selected(refresh=0) == replace(OWN, refresh=0)


@pytest.mark.parametrize("mode", PRESETS)
def test_a_preset_replaces_the_rule_and_nothing_else(mode: Mode) -> None:
    assert selected(mode=mode) == replace(OWN, mode=mode, **asdict(RULES[mode]))


def test_a_field_of_the_rule_fixes_the_rest_of_it() -> None:
    assert selected(tau=8.0) == replace(OWN, mode="fixed", tau=8.0)
    assert selected(mode="auto", tau=8.0) == selected(mode="fixed", tau=8.0) == selected(tau=8.0)
    assert selected(mode="fixed") == replace(OWN, mode="fixed")
    assert selected(dense_layers=[]).dense_layers == ()
    assert selected(dense_layers=[1, 0]).dense_layers == (1, 0)


def test_a_field_may_change_what_a_preset_of_the_artifact_says() -> None:
    paper = SelectionRecipe(mode="paper-i")
    assert checked_selection(paper, DIMS, lam=0.25) == replace(paper, mode="fixed", lam=0.25)


def test_the_sensitivity_goes_with_shrinkage() -> None:
    assert selected(fusion="local").sensitivity == 0.0
    assert selected(fusion="shrinkage").sensitivity == 0.5
    with pytest.raises(GenerationError, match=r"^sensitivity: got 1.0 with fusion 'local'"):
        selected(fusion="local", sensitivity=1.0)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"mode": "gryffin"}, "mode: got 'gryffin'; did you mean 'griffin'"),
        ({"mode": "paper-a", "lam": 0.25}, "lam: got 0.25 with mode 'paper-a', whose lam is 0.5"),
        ({"sensitivity": 0.3}, "sensitivity: got 0.3, expected one of 0, 0.25, 0.5, 1"),
        ({"sensitivity": "1"}, "sensitivity: got '1', expected a number from 0 to 1"),
        ({"sensitivity": True}, "sensitivity: got True"),
        ({"refresh": "often"}, "refresh: got 'often', expected a whole number .* 'auto' or 'off'"),
        ({"refresh": 1.5}, "refresh: got 1.5"),
        ({"refresh": False}, "refresh: got False"),
        ({"local_tokens": "some"}, "local_tokens: got 'some'; did you mean 'user'"),
        ({"dense_layers": [4]}, r"dense_layers: got \[4\], expected layers 0 to 3"),
        ({"dense_layers": [1, 1]}, r"dense_layers: got \[1, 1\]"),
        ({"dense_layers": [-1]}, "dense_layers: got -1"),
        ({"dense_layers": [0.5]}, "dense_layers: got 0.5"),
        ({"dense_layers": 3}, "dense_layers: got 3, expected a list of layers"),
    ],
)
def test_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError, match=f"^{message}"):
        selected(**wanted)
