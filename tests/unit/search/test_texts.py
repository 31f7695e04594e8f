"""The model's own text is cut into what was asked and what was answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_export.errors import CalibrationError
from glass_export.evaluate.texts import MIN_STEPS, EvalText
from glass_export.load import LoadedModel
from glass_export.recipe import CalibrationRecipe
from glass_export.search import texts as module
from glass_export.search.texts import PROMPTS, STEPS, TEXTS, held_out_texts

BEGIN, END, USER, ASSISTANT = range(4)  # of the tiny tokenizer, all of them special
Documents = list[list[int]]
Cut = Callable[..., list[EvalText]]


def words(count: int, first: int = 20) -> list[int]:
    return [*range(first, first + count)]


@pytest.fixture
def cut(
    loaded: LoadedModel, calibration: CalibrationRecipe, monkeypatch: pytest.MonkeyPatch
) -> Cut:
    """``cut(free, asked)``: texts made of documents from nothing and from the template."""

    def make(free: Documents, asked: Documents | None = None) -> list[EvalText]:
        def written(model: Any, settings: Any, store: Any) -> list[Any]:
            assert settings.stop_ids == (END,)
            documents = {(BEGIN,): free, (BEGIN, USER): asked}[settings.prefix]
            assert documents is not None, "text from the template was not asked for"
            return [np.array(document, np.int32) for document in documents]

        monkeypatch.setattr(module, "write_text", written)
        return held_out_texts(loaded, calibration, None, templated=asked is not None)

    return make


def test_text_from_the_template_is_cut_at_the_turn(cut: Cut) -> None:
    question = [30, 31, BEGIN, 32]
    (text,) = cut([], [[*question, ASSISTANT, *words(12, 40), END]])
    assert text.prompt == (BEGIN, USER, *question, ASSISTANT)
    assert text.weights == (0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0)  # no special token is scored
    assert text.continuation == tuple(words(12, 40))  # without the end
    assert text.domain == "held-out"


def test_an_answer_ends_where_it_was_first_said_to(cut: Cut) -> None:
    (text,) = cut([], [[30, ASSISTANT, *words(9), END, *words(50), ASSISTANT, *words(60)]])
    assert text.continuation == tuple(words(9))


@pytest.mark.parametrize(
    "document",
    [
        [*words(60)],  # no answer
        [ASSISTANT, *words(60)],  # no question
        [USER, BEGIN, ASSISTANT, *words(60)],  # none in words
        [*words(60), ASSISTANT],
        [*words(60), ASSISTANT, END, *words(60)],
        [*words(5), ASSISTANT, *words(MIN_STEPS)],  # too short an answer
    ],
)
def test_what_is_no_question_and_answer_is_left_out(cut: Cut, document: list[int]) -> None:
    kept = [*words(5), ASSISTANT, *words(MIN_STEPS + 1)]
    (text,) = cut([], [document, kept])
    assert text.steps == MIN_STEPS and text.prompt[2:-1] == tuple(words(5))


def test_text_from_nothing_is_cut_after_its_first_tokens(cut: Cut) -> None:
    found = cut([words(60, 20 + number) for number in range(4)])
    assert sorted(len(text.prompt) - 1 for text in found) == sorted((*PROMPTS, PROMPTS[0]))
    for text in found:
        assert text.prompt[0] == BEGIN and text.weights == (0.0, *[1.0] * (len(text.prompt) - 1))
        whole = [*text.prompt[1:], *text.continuation]
        assert whole == words(60, whole[0])


def test_a_continuation_has_no_more_than_the_most_steps(cut: Cut) -> None:
    (free,) = cut([words(PROMPTS[0] + 150)])
    asked, _ = cut([words(PROMPTS[0] + 150)], [[30, ASSISTANT, *words(150)]])
    assert free.steps == asked.steps == STEPS


def test_documents_that_end_within_the_prompt_are_left_out(cut: Cut) -> None:
    first, second = PROMPTS[0], PROMPTS[1]
    found = cut([words(first + MIN_STEPS), words(second + MIN_STEPS + 1), words(3), words(40)])
    assert [len(text.prompt) - 1 for text in found] == [first, second]


def lengths(count: int) -> list[int]:
    """Steps of as many texts, mixed up; all are long enough and none has the most steps."""
    return [MIN_STEPS + 1 + (7 * number) % count for number in range(count)]


def openings(count: int) -> Documents:
    return [words(PROMPTS[n % len(PROMPTS)] + 1 + s) for n, s in enumerate(lengths(count))]


def answers(count: int) -> Documents:
    return [[30, ASSISTANT, *words(1 + steps)] for steps in lengths(count)]


@pytest.mark.parametrize(
    ("free", "asked", "expected"),
    [(20, 20, (6, 6)), (20, 2, (2, 10)), (3, 20, (6, 3)), (20, 0, (0, 12))],
)
def test_the_longest_of_both_kinds_in_equal_parts(
    cut: Cut, free: int, asked: int, expected: tuple[int, int]
) -> None:
    found = cut(openings(free), answers(asked))
    kinds = [[t for t in found if (t.prompt[1] == USER) == chat] for chat in (True, False)]
    assert tuple(map(len, kinds)) == expected and sum(expected) <= TEXTS
    for texts, count in zip(kinds, (asked, free), strict=True):
        assert [text.steps for text in texts] == sorted(lengths(count))[::-1][: len(texts)]
    assert found == [*kinds[0], *kinds[1]]


def test_without_a_template_all_texts_are_from_nothing(cut: Cut) -> None:
    found = cut(openings(20))
    assert [text.steps for text in found] == sorted(lengths(20))[::-1][:TEXTS]
    assert not any(USER in text.prompt for text in found)


def test_documents_that_are_all_too_short(cut: Cut) -> None:
    with pytest.raises(CalibrationError, match=r"no text .* more than 8 tokens; use selection\."):
        cut([words(MIN_STEPS)] * 50, [words(MIN_STEPS)])


def test_texts_are_of_another_seed_than_the_prior_and_kept(
    loaded: LoadedModel,
    calibration: CalibrationRecipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seeds, write_text = [], module.write_text

    def recorded(model: Any, settings: Any, store: Any) -> Any:
        seeds.append((settings.seed, settings.temperature))
        return write_text(model, settings, store)

    def fail(*_: object) -> None:
        raise AssertionError("text was written again")

    monkeypatch.setattr(module, "WRITTEN", 512)
    monkeypatch.setattr(module, "write_text", recorded)
    found = held_out_texts(loaded, calibration, tmp_path, templated=True)
    assert seeds == [(calibration.seed + 1, calibration.temperature)] * 2
    assert found and all(text.steps >= MIN_STEPS for text in found)
    monkeypatch.setattr("glass_export.calibrate.text._round", fail)
    assert held_out_texts(loaded, calibration, tmp_path, templated=True) == found
