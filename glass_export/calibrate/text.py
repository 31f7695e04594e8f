"""Null-prompt text: what a model writes when it is given nothing but what every text starts with.

That is the begin-of-text token, or all of a chat template up to where the user's words would begin:
then the model writes both the question and the answer.

Legend: B rows of a round, T tokens written, P tokens of the prefix, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glass_export.calibrate.cache import CalibrationCache, Sequence
from glass_export.calibrate.kv import InPlaceCache
from glass_export.calibrate.team import ALONE, Team
from glass_export.errors import CalibrationError
from glass_export.log import logger, progress

MIN_TOKENS = 256
"""Fewer tokens than this do not give a usable prior."""
MIN_DISTINCT = 16
"""Text with fewer different tokens is dead."""
MAX_SHARE = 0.5
"""Text in which one token makes up more than this share is dead."""
MIN_MEAN_LENGTH = 4.0
"""A model whose documents are shorter on average, in tokens, does not write text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """Everything the text depends on, besides the model.

    ``tokens``: written in all; ``sequence_length``: most tokens of one sequence; ``batch``: most
    sequences written at a time; ``prefix``: what every sequence starts with, not part of it.
    """

    tokens: int
    sequence_length: int
    batch: int
    temperature: float
    seed: int
    prefix: tuple[int, ...]
    stop_ids: tuple[int, ...]


def write_text(
    model: PreTrainedModel,
    settings: TextSettings,
    store: CalibrationCache,
    team: Team = ALONE,
) -> list[Sequence]:
    """Sample exactly ``settings.tokens`` tokens, in rounds that the cache keeps one by one.

    A sequence ends at a stop token (which belongs to it), at its greatest length, or with its
    round. A round depends on the seed and its number, so a resumed run writes the same text, and so
    do several processes, each of which writes other rounds.

    Raises:
        CalibrationError: NaN in the logits, dead text, or documents of next to no tokens.
    """
    rounds = team.share(store.load_text())
    with progress("writing calibration text", settings.tokens, "tokens") as task:
        task.advance(_written(rounds))
        while (missing := settings.tokens - _written(rounds)) > 0:
            # Rounds that will be needed in full, whatever those before them bring.
            certain = min(team.size, missing // (settings.batch * settings.sequence_length))
            own = None
            if team.rank < max(1, certain):
                number = [settings.seed, len(rounds) + team.rank]
                seed = int(np.random.SeedSequence(number).generate_state(1)[0])
                own = _round(model, settings, missing, seed, task.advance)
            rounds += [part for part in team.collect(own) if part is not None]
            _check_alive(rounds)
            store.save_text(rounds)
    sequences = [sequence for part in rounds for sequence in part]
    _log(sequences)
    return sequences


def _written(rounds: list[list[Sequence]]) -> int:
    return sum(len(sequence) for part in rounds for sequence in part)


@torch.no_grad()
def _round(
    model: PreTrainedModel,
    settings: TextSettings,
    missing: int,
    seed: int,
    advance: Callable[[float], None],
) -> list[Sequence]:
    """Write ``missing`` tokens, or as many as one batch of full-length sequences has.

    Every row takes one token a step. Where a document ends, the next one starts in the same row
    from the prefix; it sees nothing of what is before it.
    """
    length, prefix = settings.sequence_length, torch.tensor(settings.prefix)
    rows = min(settings.batch, math.ceil(missing / length))
    missing = min(missing, rows * length)
    steps = math.ceil(missing / rows) + len(prefix) - 1
    generator = torch.Generator().manual_seed(seed)
    cache = InPlaceCache(model.config.get_text_config().num_hidden_layers, steps)
    stops = torch.tensor(settings.stop_ids, dtype=torch.long)
    tokens = torch.zeros((rows, steps), dtype=torch.int32)
    written, ended = (torch.zeros((rows, steps), dtype=torch.bool) for _ in range(2))
    starts = torch.zeros(rows, dtype=torch.long)
    current = prefix[:1].expand(rows)
    for step in range(steps):
        logits = _next_logits(model, cache, current, starts, step)
        sampled = sample(logits, settings.temperature, generator)
        age = step + 1 - starts  # tokens of the document so far
        written[:, step] = age >= len(prefix)
        current = torch.where(written[:, step], sampled, prefix[age.clamp(max=len(prefix) - 1)])
        tokens[:, step] = current
        ended[:, step] = written[:, step] & torch.isin(current, stops)
        current = torch.where(ended[:, step], prefix[0], current)
        starts = torch.where(ended[:, step], step + 1, starts)
        before = int(written[:, :step].sum())
        advance(float(max(0, min(int(written[:, step].sum()), missing - before))))
    return _cut(_split(tokens, written, ended), missing)


def _next_logits(
    model: PreTrainedModel, cache: InPlaceCache, tokens: Tensor, starts: Tensor, step: int
) -> Tensor:
    """Logits [B,V] after ``tokens`` [B] in column ``step`` of documents begun at ``starts`` [B]."""
    places: dict[str, Tensor] = {}
    if bool(starts.any()):
        columns = torch.arange(step + 1)
        places["attention_mask"] = (columns >= starts[:, None]).long().to(model.device)
        places["position_ids"] = (step - starts)[:, None].to(model.device)
    output = model(
        input_ids=tokens[:, None].to(model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **places,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def _split(tokens: Tensor, written: Tensor, ended: Tensor) -> list[Sequence]:
    """The documents of every row [B,T], in order, without their prefixes."""
    return [
        part[mask]
        for row, own, ends in zip(tokens.numpy(), written.numpy(), ended.numpy(), strict=True)
        for part, mask in zip(
            *(np.split(x, np.flatnonzero(ends) + 1) for x in (row, own)), strict=True
        )
        if mask.any()
    ]


def sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw a token for each row by inverting the distribution function. Shape: [B,V] -> [B]."""
    cumulative = torch.softmax(logits.float().div_(temperature), -1).cumsum_(-1)
    total = cumulative[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise CalibrationError(
            "calibration text: the model's logits hold NaN or infinity, expected finite numbers; "
            "the weights may be damaged or overflow in this number format: load them in float32"
        )
    uniform = torch.rand((len(logits), 1), dtype=torch.float64, generator=generator)
    drawn = torch.searchsorted(cumulative, (uniform.to(total.device) * total).to(total.dtype))
    return drawn[:, 0].cpu()


def _cut(sequences: list[Sequence], missing: int) -> list[Sequence]:
    """The first ``missing`` tokens of the sequences."""
    kept = []
    for sequence in sequences:
        if missing > 0:
            kept.append(sequence[:missing])
            missing -= len(sequence)
    return kept


def _check_alive(rounds: list[list[Sequence]]) -> None:
    sequences = [sequence for part in rounds for sequence in part]
    tokens = np.concatenate(sequences)
    mean = len(tokens) / len(sequences)
    if mean < MIN_MEAN_LENGTH:
        raise CalibrationError(
            "calibration text: too few tokens: the model ends its documents after "
            f"{mean:.1f} tokens on average, expected at least {MIN_MEAN_LENGTH:g}; check the "
            "begin-of-text token and that only a document's end stops the text"
        )
    if len(tokens) < MIN_TOKENS:
        return
    values, counts = np.unique(tokens, return_counts=True)
    share = counts.max() / len(tokens)
    if len(values) < MIN_DISTINCT or share > MAX_SHARE:
        raise CalibrationError(
            f"calibration text is dead: {len(values)} different tokens, token "
            f"{values[counts.argmax()]} makes up {share:.0%} of {len(tokens)}; expected at least "
            f"{MIN_DISTINCT} and at most {MAX_SHARE:.0%}; check the weights and the begin-of-text "
            "token, or raise calibration.temperature"
        )


def _log(sequences: list[Sequence]) -> None:
    tokens = np.concatenate(sequences)
    logger.info(
        "calibration text: %d tokens in %d sequences, %d different",
        len(tokens),
        len(sequences),
        len(np.unique(tokens)),
    )
