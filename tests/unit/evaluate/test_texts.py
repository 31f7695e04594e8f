"""Texts that fidelity is measured on."""

from __future__ import annotations

from glass_export.evaluate.texts import EvalText

TEXT = EvalText((1, 2, 3, 4, 5), (0.0, 1.0, 0.0, 1.0, 1.0), (6, 7, 8), "other")


def test_decode_steps_are_all_tokens_of_the_continuation_but_the_first() -> None:
    assert TEXT.steps == 2


def test_the_first_scored_tokens_of_the_user_or_of_all() -> None:
    assert TEXT.scored() == TEXT.scored("user", 9) == TEXT.weights
    assert TEXT.scored("user", 2) == (0.0, 1.0, 0.0, 1.0, 0.0)
    assert TEXT.scored("all") == (1.0,) * 5
    assert TEXT.scored("all", 2) == (1.0, 1.0, 0.0, 0.0, 0.0)
