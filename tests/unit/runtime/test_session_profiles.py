"""Answers by a profile: its values, what wins over them, and names that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glass_export.errors import GenerationError
from glass_export.runtime import Generation, Session
from glass_export.selection import Profile

PROMPT = "Hello world, how are you today?"
PROFILES = {
    "fast": Profile(density=0.25),
    "faithful": Profile(density=0.75, refresh=3, dense_start=2),
}


@pytest.fixture
def answer(make_session: Callable[..., Session]) -> Callable[..., Generation]:
    """``answer(**settings)``: 12 tokens, of a session of its own with PROFILES."""

    def generate(**settings: Any) -> Generation:
        session = make_session()
        session.profiles = PROFILES
        return session.generate(PROMPT, max_new_tokens=12, **settings)

    return generate


def figures(result: Generation) -> tuple[Any, ...]:
    return result.token_ids, result.stats.density, result.stats.refreshes


def test_a_profile_stands_for_its_values(answer: Callable[..., Generation]) -> None:
    fast, faithful = answer(profile="fast"), answer(profile="faithful")
    assert figures(fast) == figures(answer(density=0.25))
    assert figures(faithful) == figures(answer(density=0.75, refresh=3, dense_start=2))
    assert (fast.stats.refreshes, fast.stats.kept_neurons) == (0, 6)
    assert faithful.stats.refreshes > 1 and faithful.stats.kept_neurons == 18


def test_what_is_given_wins_and_what_is_none_does_not(answer: Callable[..., Generation]) -> None:
    given = answer(profile="faithful", density=0.5, refresh=0, dense_start=None)
    assert figures(given) == figures(answer(density=0.5, refresh=0, dense_start=2))
    rule = {"fusion": "local", "local": "griffin"}
    assert figures(answer(profile="fast", **rule)) == figures(answer(density=0.25, **rule))
    assert figures(answer(profile=None)) == figures(answer())


def test_an_unknown_profile_is_refused_before_any_work(
    make_session: Callable[..., Session],
) -> None:
    session = make_session()
    session.profiles = PROFILES
    with pytest.raises(GenerationError, match="did you mean 'faithful'. known: faithful, fast"):
        session.generate(PROMPT, profile="faithfull")
    session.profiles = {}
    with pytest.raises(GenerationError, match="'fast', not in this artifact; it has none"):
        session.generate(PROMPT, profile="fast")
    assert session.tokens == ()
