"""Answers of a dense model, whatever runs it: how they are sampled, and where they are kept.

Neither torch nor transformers is needed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glass_export.errors import ArtifactError, EvaluationError
from glass_export.evaluate.prompts import EvalPrompt
from glass_export.evaluate.texts import MIN_STEPS, EvalText
from glass_export.log import logger
from glass_export.prior import read_tensors, write_tensors
from glass_export.runtime.chat_template import Message
from glass_export.runtime.text import TextCodec

Answers = list[list[int]]
"""Tokens of every prompt's answer, without what ends it; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How continuations are sampled. ``tokens``: most of an answer."""

    tokens: int = 128
    temperature: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens <= MIN_STEPS:
            raise EvaluationError(
                f"tokens: got {self.tokens}, expected at least {MIN_STEPS + 1}; shorter answers "
                "say too little"
            )
        if not 0 < self.temperature < math.inf:
            raise EvaluationError(
                f"temperature: got {self.temperature}, expected a number above 0; the answers "
                "are samples"
            )
        if self.seed < 0:
            raise EvaluationError(f"seed: got {self.seed}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the model reads it; ``weights`` as in EvalText."""

    tokens: list[int]
    weights: tuple[float, ...]
    domain: str


def asked(codec: TextCodec, prompt: EvalPrompt) -> str | list[Message]:
    """A prompt as a conversation for a chat model, else as it is."""
    return prompt.text if codec.template is None else [{"role": "user", "content": prompt.text}]


def encode(codec: TextCodec, prompt: EvalPrompt) -> EncodedPrompt:
    """Tokens of a prompt, and which of them are scored."""
    tokens, mask = codec.encode(asked(codec, prompt), "user")
    return EncodedPrompt(tokens, tuple(mask.tolist()), prompt.domain)


def usable_texts(prompts: Sequence[EncodedPrompt], answers: Answers) -> list[EvalText]:
    """Prompts with answers that are long enough. Raises EvaluationError when there is none."""
    return usable(
        [
            EvalText(tuple(prompt.tokens), prompt.weights, tuple(answer), prompt.domain)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
    )


def usable(texts: Sequence[EvalText]) -> list[EvalText]:
    """The texts with enough decode steps. Raises EvaluationError when there is none."""
    kept = [text for text in texts if text.steps >= MIN_STEPS]
    if len(kept) < len(texts):
        logger.info("%d answers are too short to be measured", len(texts) - len(kept))
    if not kept:
        longest = max((text.steps + 1 for text in texts), default=0)
        raise EvaluationError(
            f"answers: the longest has {longest} tokens, expected at least {MIN_STEPS + 1}; ask "
            "for longer answers, or give prompts that the model answers at length"
        )
    return kept


def remembered(cache: Path | None, key: str, sample: Callable[[], Answers]) -> Answers:
    """Answers from the cache, else sampled and put there.

    Args:
        cache: Directory that keeps answers; None keeps nothing.
        key: All that the answers depend on.
        sample: Samples them.
    """
    if cache is None:
        return sample()
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    answers = _load(path)
    if answers is None:
        answers = sample()
        _save(path, answers)
    return answers


def _load(path: Path) -> Answers | None:
    if not path.is_file():
        return None
    try:
        tensors, _ = read_tensors(path)
    except ArtifactError as problem:
        logger.warning("cached answers: %s; ignored, they are sampled again", problem)
        return None
    parts = np.split(tensors["tokens"], np.cumsum(tensors["lengths"])[:-1])
    return [part.tolist() for part in parts]


def _save(path: Path, answers: Answers) -> None:
    tensors = {
        "tokens": np.array([token for answer in answers for token in answer], np.int64),
        "lengths": np.array([len(answer) for answer in answers], np.int64),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, {})
    except OSError as problem:
        logger.warning("cached answers: cannot write %s (%s); going on without", path, problem)
