"""Held-out text of the model itself, cut into a prompt and a continuation.

Text from a chat template is a question and an answer, and is cut between the two; text from nothing
is cut after its first tokens. A chat model is judged on both in equal parts: on one alone, the
prior that was measured on the same kind of text would win.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from glass_export import package
from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.text import TextSettings, write_text
from glass_export.errors import CalibrationError
from glass_export.evaluate.texts import MIN_STEPS, EvalText
from glass_export.load import LoadedModel
from glass_export.recipe import CalibrationRecipe
from glass_export.schema import to_data

TEXTS = 12
"""Texts that rules are judged on."""
STEPS = 96
"""Most decode steps of a text."""
WRITTEN = 3072
"""Tokens that are written to cut the texts from, of each kind."""
PROMPTS = (8, 16, 32)
"""Prompt lengths of text from nothing, in turns; tokens."""

_LENGTH = 192
_BATCH = 16


@dataclass(frozen=True, slots=True)
class _Cut:
    """How documents are cut: what stands before them, and tokens that end or mean nothing."""

    prefix: tuple[int, ...]
    ends: frozenset[int]
    special: frozenset[int]


def held_out_texts(
    loaded: LoadedModel, recipe: CalibrationRecipe, cache: Path | None, *, templated: bool
) -> list[EvalText]:
    """At most TEXTS texts that no prior was measured on, the longest of each kind.

    Args:
        loaded: The model.
        recipe: How its text is sampled.
        cache: Directory that keeps the text; None keeps nothing.
        templated: Whether half of the texts are from the chat template.

    Raises:
        CalibrationError: the model writes no text, or no document of it is long enough.
    """
    openings = [*_openings(*_written(loaded, recipe, cache, package.null_prompt(loaded)))]
    answers: list[EvalText] = []
    if templated:
        turn = package.answer_turn(loaded)
        documents, cut = _written(loaded, recipe, cache, package.template_prompt(loaded))
        answers = [*_answers(documents, turn, cut)]
    asked = _longest(answers, TEXTS // 2)
    texts = [*asked, *_longest(openings, TEXTS - len(asked))]
    if not texts:
        raise CalibrationError(
            f"recipe search: no text of {WRITTEN} tokens that the model wrote can be cut into a "
            f"prompt and a continuation of more than {MIN_STEPS} tokens; use selection.mode=fixed, "
            "or change calibration.temperature"
        )
    return texts


def _longest(texts: list[EvalText], count: int) -> list[EvalText]:
    return sorted(texts, key=lambda text: -text.steps)[:count]


def _written(
    loaded: LoadedModel, recipe: CalibrationRecipe, cache: Path | None, start: dict[str, Any]
) -> tuple[list[list[int]], _Cut]:
    """Documents of WRITTEN tokens, and how to cut them."""
    settings = TextSettings(
        tokens=WRITTEN,
        sequence_length=_LENGTH,
        batch=_BATCH,
        temperature=recipe.temperature,
        seed=recipe.seed + 1,
        **start,
    )
    store = CalibrationCache(
        cache, {"held-out text": to_data(settings), "model": loaded.source.sha256}
    )
    documents = [part.tolist() for part in write_text(loaded.model, settings, store)]
    added = loaded.tokenizer.added_tokens_decoder
    ends = frozenset((*loaded.eos_token_ids, *start["stop_ids"]))
    special = frozenset(index for index, token in added.items() if token.special)
    return documents, _Cut(start["prefix"], ends, special)


def _answers(
    documents: Sequence[list[int]], turn: tuple[int, ...], cut: _Cut
) -> Iterator[EvalText]:
    """Question and answer of every document that has both, with ``turn`` between them."""
    for document in documents:
        end = _find(document, turn)
        if end:
            yield from _text(document[:end], turn, document[end + len(turn) :], cut)


def _openings(documents: Sequence[list[int]], cut: _Cut) -> Iterator[EvalText]:
    """The first tokens of every document, and what follows."""
    for document, length in zip(documents, cycle(PROMPTS)):
        yield from _text(document[:length], (), document[length:], cut)


def _text(
    words: list[int], turn: tuple[int, ...], rest: list[int], cut: _Cut
) -> Iterator[EvalText]:
    """The text, if it is long enough; its continuation stops where the answer does."""
    stop = next((i for i, token in enumerate(rest) if token in cut.ends), len(rest))
    continuation = tuple(rest[: min(stop, STEPS + 1)])
    weights = [float(token not in cut.special) for token in words]
    if len(continuation) > MIN_STEPS and any(weights):
        yield EvalText(
            prompt=(*cut.prefix, *words, *turn),
            weights=(*[0.0] * len(cut.prefix), *weights, *[0.0] * len(turn)),
            continuation=continuation,
            domain="held-out",
        )


def _find(tokens: list[int], part: tuple[int, ...]) -> int:
    """Where ``part`` begins in ``tokens``; 0 when it is not there."""
    size = len(part)
    places = range(1, len(tokens) - size + 1)
    return next((i for i in places if tuple(tokens[i : i + size]) == part), 0)
