"""Settings of small evaluations on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glass_export.evaluate.answers import AnswerSettings
from glass_export.evaluate.prompts import EvalPrompt
from glass_export.evaluate.sweep import EvalSettings, Sweep

PROMPTS = tuple(
    EvalPrompt(text, domain)
    for text, domain in (
        ("the quick brown fox jumps over", "animals"),
        ("the lazy dog", "animals"),
        ("over and over the fox", "loops"),
    )
)


@pytest.fixture
def settings_of() -> Callable[..., EvalSettings]:
    """``settings_of(*methods, every=None, **sweep)``: three prompts, answers of 24 tokens."""

    def make(*methods: str, every: int | None = None, **sweep: Any) -> EvalSettings:
        return EvalSettings(
            prompts=PROMPTS,
            prompts_name="tiny",
            sweep=Sweep(methods=methods, **sweep),
            answers=AnswerSettings(tokens=24, temperature=1.5),
            every=every,
        )

    return make
