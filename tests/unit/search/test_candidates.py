"""Which rules a search compares."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glass_export.evaluate.methods import Method, NullText
from glass_export.search.candidates import MOST_DENSE, dense_layers, describe, fusions, settings
from glass_export.selection import SelectionRecipe
from glass_export.spec import NullStart

BASE = SelectionRecipe(density=0.3, refresh=64, dense_start=16)
STARTS: tuple[NullStart, ...] = ("null", "template", "mixed")


def named(methods: list[Method], name: str) -> Method:
    return next(method for method in methods if method.name == name)


def test_every_statistic_and_prior_is_compared_and_both_forms_of_the_paper() -> None:
    found = [(method.name, method.null_text.start) for method in fusions(BASE, STARTS)]
    both = ["borda A A lam 0.5", "borda A I lam 0.5"]
    squared = [
        "borda squared G lam 0.5", "borda squared F lam 0.5",
        "shrinkage squared G tau 32", "shrinkage squared G tau 128",
    ]  # fmt: skip
    assert found == [
        *((name, "null") for name in both),
        *((name, start) for start in STARTS for name in squared),
    ]


def test_rules_are_compared_at_one_density_and_without_refresh() -> None:
    for method in fusions(BASE, STARTS):
        chosen = method.selection
        assert (chosen.density, chosen.refresh, chosen.dense_start) == (0.3, 0, 0)
        assert chosen.mode == "fixed" and chosen.dense_layers == ()


def test_the_forms_of_the_paper_score_every_token_of_the_prompt() -> None:
    paper = [m.selection.local_tokens for m in fusions(BASE, STARTS) if m.selection.local == "A"]
    others = {m.selection.local_tokens for m in fusions(BASE, STARTS) if m.selection.local != "A"}
    assert paper == ["all", "all"] and others == {"user"}


@pytest.mark.parametrize(
    ("best", "changes"),
    [
        ("borda squared F lam 0.5", [{"lam": 0.35}, {"lam": 0.65}]),
        ("borda A A lam 0.5", [{"lam": 0.35}, {"lam": 0.65}]),
        (
            "shrinkage squared G tau 32",
            [{"tau": 16.0}, {"tau": 64.0}, {"sensitivity": 0.25}, {"sensitivity": 0.5}],
        ),
        (
            "shrinkage squared G tau 128",
            [{"tau": 64.0}, {"tau": 256.0}, {"sensitivity": 0.25}, {"sensitivity": 0.5}],
        ),
    ],
)
def test_settings_are_those_next_to_the_best(best: str, changes: list[dict[str, float]]) -> None:
    before = named([*fusions(BASE, ("template",))], best)
    found = [*settings(before)]
    assert [method.selection for method in found] == [
        replace(before.selection, **change) for change in changes
    ]
    assert {method.null_text for method in found} == {before.null_text}


@pytest.mark.parametrize(("layers", "most"), [(1, 0), (2, 1), (3, 2), (4, 3), (30, MOST_DENSE)])
def test_the_layers_that_cost_most_are_kept_dense(layers: int, most: int) -> None:
    best = named([*fusions(BASE, STARTS)], "borda squared G lam 0.5")
    layer_kl = [0.1 + 0.001 * layer for layer in range(layers)]
    layer_kl[0], layer_kl[-1] = 0.9, 0.5
    order = [0, layers - 1, layers - 2]
    found = [*dense_layers(best, layer_kl)]
    assert [method.selection.dense_layers for method in found] == [
        tuple(order[:count]) for count in range(1, most + 1)
    ]


def test_layers_of_equal_cost_come_in_their_order() -> None:
    best = next(fusions(BASE, STARTS))
    found = [method.selection.dense_layers for method in dense_layers(best, [0.2] * 5)]
    assert found == [(0,), (0, 1), (0, 1, 2)]


@pytest.mark.parametrize("first", range(14))
def test_no_rule_is_compared_twice(first: int) -> None:
    compared = [*fusions(BASE, STARTS)]
    best = compared[first]
    compared += settings(best)
    compared += dense_layers(compared[-1], [0.3, 0.2, 0.1, 0.4])
    assert len(set(compared)) == len(compared)
    assert len({(method.name, method.null_text) for method in compared}) == len(compared)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (SelectionRecipe(fusion="local", local="squared"), "local squared"),
        (SelectionRecipe(fusion="global", prior="F"), "global F"),
        (SelectionRecipe(fusion="borda", lam=0.35), "borda A A lam 0.35"),
        (
            SelectionRecipe(
                fusion="shrinkage", local="squared", prior="G", tau=16.0, sensitivity=0.25,
                dense_layers=(2, 0),
            ),
            "shrinkage squared G tau 16 sensitivity 0.25 dense 2,0",
        ),
    ],
)  # fmt: skip
def test_a_rule_in_short(rule: SelectionRecipe, name: str) -> None:
    assert describe(rule) == name


def test_a_changed_rule_keeps_the_text_of_its_prior() -> None:
    best = named([*fusions(BASE, ("mixed",))], "shrinkage squared G tau 32")
    changed = [*settings(best), *dense_layers(best, [0.1, 0.2])]
    assert {method.null_text for method in changed} == {NullText(start="mixed")}
