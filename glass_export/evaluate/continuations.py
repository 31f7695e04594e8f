"""What the dense model answers to the prompts: sampled once, kept in the cache.

Legend: B rows sampled together, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glass_export.calibrate.kv import InPlaceCache
from glass_export.calibrate.text import sample
from glass_export.errors import ArtifactError, EvaluationError
from glass_export.evaluate.prompts import EvalPrompt, digest
from glass_export.evaluate.texts import MIN_STEPS, EvalText
from glass_export.log import logger, progress
from glass_export.prior import read_tensors, write_tensors
from glass_export.runtime.text import TextCodec

ROWS = 24
"""Prompts that are answered together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How continuations are sampled. ``tokens``: most of an answer."""

    tokens: int = 128
    temperature: float = 0.8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Encoded:
    tokens: list[int]
    weights: tuple[float, ...]
    domain: str


def answer_prompts(
    model: PreTrainedModel,
    codec: TextCodec,
    prompts: Sequence[EvalPrompt],
    settings: AnswerSettings,
    *,
    eos_token_ids: tuple[int, ...],
    model_sha256: str,
    cache: Path | None,
) -> list[EvalText]:
    """Texts of the prompts whose answers are long enough to be measured.

    Args:
        model: The dense model, in evaluation mode.
        codec: Its tokenizer and, for a chat model, its template.
        prompts: What it is asked.
        settings: How it answers.
        eos_token_ids: What ends an answer; not part of it.
        model_sha256: Identity of the weights, part of the cache's key.
        cache: Directory that keeps answers; None keeps nothing.

    Raises:
        EvaluationError: no answer is long enough.
    """
    encoded = [_encode(codec, prompt) for prompt in prompts]
    key = f"{model_sha256} {model.dtype} {digest(tuple(prompts))} {settings} {eos_token_ids}"
    path = cache and cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    answers = _load(path) if path else None
    if answers is None:
        answers = [*_sampled(model, [e.tokens for e in encoded], settings, eos_token_ids)]
        if path:
            _save(path, answers)
    texts = [
        EvalText(tuple(one.tokens), one.weights, tuple(answer.tolist()), one.domain)
        for one, answer in zip(encoded, answers, strict=True)
    ]
    return usable(texts)


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


def _encode(codec: TextCodec, prompt: EvalPrompt) -> _Encoded:
    chat = codec.template is not None
    asked = [{"role": "user", "content": prompt.text}] if chat else prompt.text
    tokens, mask = codec.encode(asked, "user")
    return _Encoded(tokens, tuple(mask.tolist()), prompt.domain)


def _sampled(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: AnswerSettings,
    eos: tuple[int, ...],
) -> Iterator[np.ndarray]:
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    answers: dict[int, np.ndarray] = {}
    with progress("dense answers", len(prompts), "prompts") as task:
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + start)
            batch = [prompts[row] for row in rows]
            answers |= zip(rows, _batch(model, batch, settings, eos, generator), strict=True)
            task.advance(len(rows))
    return (answers[row] for row in range(len(prompts)))


@torch.no_grad()
def _batch(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: AnswerSettings,
    eos: tuple[int, ...],
    generator: torch.Generator,
) -> list[np.ndarray]:
    """Answers of prompts [B], padded on the left, without what ends them."""
    current, seen = _left_padded(prompts)
    places = (seen.cumsum(1) - 1).clamp_min(0)
    cache = InPlaceCache(
        model.config.get_text_config().num_hidden_layers, current.shape[1] + settings.tokens
    )
    written = torch.zeros((len(prompts), settings.tokens), dtype=torch.long)
    running = torch.ones(len(prompts), dtype=torch.bool)
    ends = torch.full((len(prompts),), settings.tokens)
    for step in range(settings.tokens):
        logits = model(
            input_ids=current,
            attention_mask=seen,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens = sample(logits, settings.temperature, generator)
        written[:, step] = tokens
        ended = running & torch.isin(tokens, torch.tensor(eos))
        ends[ended] = step
        running &= ~ended
        if not running.any():
            break
        current, places = tokens[:, None], places[:, -1:] + 1
        seen = torch.cat([seen, torch.ones((len(prompts), 1), dtype=torch.long)], 1)
    return [row[:end].numpy() for row, end in zip(written, ends, strict=True)]


def _left_padded(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask [B,T]."""
    longest = max(map(len, prompts))
    tokens, seen = (torch.zeros((len(prompts), longest), dtype=torch.long) for _ in range(2))
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        seen[row, longest - len(prompt) :] = 1
    return tokens, seen


def _load(path: Path) -> list[np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        tensors, _ = read_tensors(path)
    except ArtifactError as problem:
        logger.warning("cached answers: %s; ignored, they are sampled again", problem)
        return None
    return np.split(tensors["tokens"], np.cumsum(tensors["lengths"])[:-1])


def _save(path: Path, answers: Sequence[np.ndarray]) -> None:
    tensors = {
        "tokens": np.concatenate(answers).astype(np.int64),
        "lengths": np.array([len(answer) for answer in answers], np.int64),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, {})
    except OSError as problem:
        logger.warning("cached answers: cannot write %s (%s); going on without", path, problem)
