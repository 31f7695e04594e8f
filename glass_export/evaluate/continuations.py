"""What the dense model answers to the prompts: sampled once, kept in the cache.

Legend: B rows sampled together, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glass_export.calibrate.kv import InPlaceCache
from glass_export.calibrate.text import sample
from glass_export.evaluate.answers import (
    Answers,
    AnswerSettings,
    encode,
    remembered,
    usable,
    usable_texts,
)
from glass_export.evaluate.prompts import EvalPrompt, digest
from glass_export.evaluate.texts import EvalText
from glass_export.log import progress
from glass_export.runtime.text import TextCodec

__all__ = ["AnswerSettings", "answer_prompts", "usable"]

ROWS = 24
"""Prompts that are answered together."""


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
    encoded = [encode(codec, prompt) for prompt in prompts]
    key = f"{model_sha256} {model.dtype} {digest(tuple(prompts))} {settings} {eos_token_ids}"
    answers = remembered(
        cache, key, lambda: _sampled(model, [e.tokens for e in encoded], settings, eos_token_ids)
    )
    return usable_texts(encoded, answers)


def _sampled(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: AnswerSettings,
    eos: tuple[int, ...],
) -> Answers:
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    answers: dict[int, list[int]] = {}
    with progress("dense answers", len(prompts), "prompts") as task:
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + start)
            batch = [prompts[row] for row in rows]
            answers |= zip(rows, _batch(model, batch, settings, eos, generator), strict=True)
            task.advance(len(rows))
    return [answers[row] for row in range(len(prompts))]


@torch.no_grad()
def _batch(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    settings: AnswerSettings,
    eos: tuple[int, ...],
    generator: torch.Generator,
) -> Answers:
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
    return [row[:end].tolist() for row, end in zip(written, ends, strict=True)]


def _left_padded(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask [B,T]."""
    longest = max(map(len, prompts))
    tokens, seen = (torch.zeros((len(prompts), longest), dtype=torch.long) for _ in range(2))
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
        seen[row, longest - len(prompt) :] = 1
    return tokens, seen
