"""Modes, rules and what a selection refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, get_args

import pytest

from glass_export.errors import ArtifactError, RecipeError
from glass_export.schema import from_data, to_data
from glass_export.selection import (
    PRESETS,
    RULE_FIELDS,
    RULES,
    Mode,
    Profile,
    Rule,
    SelectionRecipe,
)


def rule(selection: SelectionRecipe) -> Rule:
    return Rule(**{name: getattr(selection, name) for name in RULE_FIELDS})


def test_every_mode_has_a_rule() -> None:
    assert set(RULES) == set(get_args(Mode))


@pytest.mark.parametrize("mode", get_args(Mode))
def test_a_mode_alone_means_its_rule(mode: Mode) -> None:
    selection = SelectionRecipe(mode=mode)
    assert selection.mode == mode and rule(selection) == RULES[mode]
    assert replace(selection, density=0.25).mode == mode


def test_presets_are_as_published() -> None:
    paper = Rule(fusion="borda", local="A", local_tokens="all", prior="A", lam=0.5)
    assert RULES["paper-a"] == paper and RULES["paper-i"] == replace(paper, prior="I")
    griffin = RULES["griffin"]
    assert (griffin.fusion, griffin.local, griffin.local_tokens) == ("local", "griffin", "all")


def test_without_a_mode_any_field_of_the_rule_fixes_it() -> None:
    assert SelectionRecipe(density=0.25, refresh=8, dense_start=2).mode == "auto"
    for name in RULE_FIELDS:
        value = getattr(RULES["fixed"], name)
        given = SelectionRecipe(**{name: value})
        assert given.mode == "fixed" and rule(given) == RULES["fixed"]


def test_auto_keeps_what_is_given() -> None:
    found = replace(SelectionRecipe(), mode="auto", sensitivity=0.5, dense_layers=(1, 0))
    assert rule(found) == replace(RULES["auto"], sensitivity=0.5, dense_layers=(1, 0))
    assert SelectionRecipe(mode="auto", tau=8.0).tau == 8.0


@pytest.mark.parametrize("mode", PRESETS)
def test_a_preset_takes_its_own_fields_and_no_others(mode: Mode) -> None:
    assert SelectionRecipe(mode=mode, **asdict(RULES[mode])) == SelectionRecipe(mode=mode)
    others: dict[str, Any] = {
        "fusion": "global", "local": "squared", "local_tokens": "user", "prior": "F",
        "lam": 0.25, "tau": 8.0, "sensitivity": 0.5, "dense_layers": (0,),
    }  # fmt: skip
    assert set(others) == set(RULE_FIELDS)
    for name, value in others.items():
        with pytest.raises(RecipeError, match=f"{name}: got .* with mode '{mode}', whose {name}"):
            SelectionRecipe(mode=mode, **{name: value})


def test_data_written_before_there_were_modes_is_a_fixed_rule() -> None:
    old = {"density": 0.5, "fusion": "borda", "local": "squared", "prior": "F", "lam": 0.5}
    selection = from_data(SelectionRecipe, {**old, "tau": 128.0}, error=ArtifactError, where="x")
    assert selection.mode == "fixed"
    assert rule(selection) == Rule(local="squared", prior="F")
    assert (selection.refresh, selection.dense_start) == (0, 0)


def test_data_and_back() -> None:
    selection = SelectionRecipe(mode="auto", sensitivity=0.25, dense_layers=(3, 0), refresh=8)
    data = to_data(selection)
    assert from_data(SelectionRecipe, data, error=RecipeError, where="x") == selection


@pytest.mark.parametrize("made", [SelectionRecipe, partial(Profile, density=0.5)])
def test_refresh_may_be_a_word(made: Callable[..., SelectionRecipe | Profile]) -> None:
    assert made(refresh="auto").refresh == "auto"
    assert made(refresh="off") == made(refresh=0)
    for wrong in ("", "Auto", "32", -1, 1.5, True):
        with pytest.raises(RecipeError, match=r"refresh: got .*, expected .* 'auto' or 'off'"):
            made(refresh=wrong)


def test_refresh_in_data() -> None:
    def read(value: object) -> int | str:
        data = {"refresh": value}
        return from_data(SelectionRecipe, data, error=RecipeError, where="x").refresh

    assert (read("auto"), read("off"), read(32)) == ("auto", 0, 32)
    for wrong in (True, 1.5, "always"):
        with pytest.raises(RecipeError, match="refresh: got"):
            read(wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "papera"}, "did you mean 'paper-a'"),
        ({"sensitivity": 0.3}, "sensitivity: got 0.3, expected one of 0, 0.25, 0.5, 1"),
        ({"fusion": "shrinkage", "sensitivity": float("nan")}, "sensitivity: got nan"),
        ({"sensitivity": 0.5}, "sensitivity: got 0.5 with fusion 'borda', expected 0"),
        ({"dense_layers": (0, -1)}, r"dense_layers: got \[0, -1\], expected .* 0 or more"),
        ({"dense_layers": (2, 0, 2)}, r"dense_layers: got \[2, 0, 2\], .* given once"),
        ({"lam": -0.5}, "lam: got -0.5"),
        ({"tau": float("inf")}, "tau: got inf"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SelectionRecipe(**fields)
