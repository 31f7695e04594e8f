"""Strict conversion: what is refused, and how the message leads to the mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from glass_export.errors import ArtifactError, RecipeError
from glass_export.schema import from_data, suggest, to_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str
    colour: Literal["red", "green"] = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    count: int
    ratio: float = 0.5
    on: bool = True
    leaves: tuple[Leaf, ...] = ()
    shape: tuple[int | str, ...] = ()
    note: str | None = None


def read(data: Any) -> Tree:
    return from_data(Tree, data, error=RecipeError, where="file")


def test_round_trip_keeps_every_type() -> None:
    tree = Tree(count=3, ratio=1.5, leaves=(Leaf(name="a"),), shape=(1, "T"), note=None)
    assert read(to_data(tree)) == tree


def test_an_int_is_a_float_where_a_float_is_asked_for() -> None:
    assert read({"count": 1, "ratio": 2}).ratio == 2.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "file: count: missing, expected a value"),
        ([], "file: got [], expected a table for Tree"),
        ({"count": "3"}, "file: count: got '3', expected int"),
        ({"count": True}, "file: count: got True, expected int"),
        ({"count": 1.0}, "file: count: got 1.0, expected int"),
        ({"count": 1, "ratio": "x"}, "file: ratio: got 'x', expected float"),
        ({"count": 1, "on": 1}, "file: on: got 1, expected bool"),
        ({"count": 1, "leaves": "ab"}, "file: leaves: got 'ab', expected a list"),
        ({"count": 1, "shape": [1.5]}, "file: shape[0]: got 1.5, expected an int or a string"),
        (
            {"count": 1, "leaves": [{"name": "a"}, {"name": "b", "colour": "blue"}]},
            "file: leaves[1].colour: got 'blue', expected one of 'red', 'green'",
        ),
        ({"count": 1, "ration": 1.0}, "file: unknown key 'ration'; did you mean 'ratio'?"),
        ({"cuont": 1}, "file: unknown key 'cuont'; did you mean 'count'?"),
        (
            {"count": 1, "leaves": [{"name": "a", "xyz": 1}]},
            "file: leaves[0]: unknown key 'xyz'; known: colour, name",
        ),
    ],
)
def test_message_names_place_value_and_expectation(data: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(data)
    assert str(caught.value) == message


def test_error_class_is_the_callers() -> None:
    with pytest.raises(ArtifactError):
        from_data(Tree, {}, error=ArtifactError, where="glass.json")


def test_suggest_names_all_when_none_is_near() -> None:
    assert suggest("zzz", ["b", "a"]) == "known: a, b"
