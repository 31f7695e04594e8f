"""Null-prompt text: what a model writes when it is given the begin-of-text token and nothing else.

Legend: B rows of a round, T tokens written, V vocabulary.
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
    sequences written at a time.
    """

    tokens: int
    sequence_length: int
    batch: int
    temperature: float
    seed: int
    bos_token_id: int
    stop_ids: tuple[int, ...]


def write_text(
    model: PreTrainedModel, settings: TextSettings, store: CalibrationCache
) -> list[Sequence]:
    """Sample exactly ``settings.tokens`` tokens, in rounds that the cache keeps one by one.

    A sequence ends at a stop token (which belongs to it) or at its greatest length. Rounds follow
    until there is enough; the last sequences are cut. A round depends on the seed, its number and
    the text before it, so a resumed run writes the same text.

    Raises:
        CalibrationError: NaN in the logits, dead text, or documents too short to get anywhere.
    """
    rounds = store.load_text()
    with progress("writing calibration text", settings.tokens, "tokens") as task:
        task.advance(sum(len(sequence) for part in rounds for sequence in part))
        while (missing := settings.tokens - _written(rounds)) > 0:
            rows = min(settings.batch, math.ceil(missing / _mean_length(rounds, settings)))
            seed = int(np.random.SeedSequence([settings.seed, len(rounds)]).generate_state(1)[0])
            part = _round(model, settings, rows, missing, seed, task.advance)
            rounds.append(part)
            _check_alive(rounds)
            store.save_text(rounds)
    sequences = [sequence for part in rounds for sequence in part]
    _log(sequences)
    return sequences


def _written(rounds: list[list[Sequence]]) -> int:
    return sum(len(sequence) for part in rounds for sequence in part)


def _mean_length(rounds: list[list[Sequence]], settings: TextSettings) -> float:
    count = sum(len(part) for part in rounds)
    return _written(rounds) / count if count else float(settings.sequence_length)


@torch.no_grad()
def _round(
    model: PreTrainedModel,
    settings: TextSettings,
    rows: int,
    missing: int,
    seed: int,
    advance: Callable[[float], None],
) -> list[Sequence]:
    """Write ``rows`` sequences at once, at most ``missing`` tokens together."""
    generator = torch.Generator().manual_seed(seed)
    cache = InPlaceCache(model.config.get_text_config().num_hidden_layers, settings.sequence_length)
    stops = torch.tensor(settings.stop_ids, dtype=torch.long)
    current = torch.full((rows, 1), settings.bos_token_id, dtype=torch.long)
    written = torch.zeros((rows, settings.sequence_length), dtype=torch.int32)
    lengths = torch.zeros(rows, dtype=torch.long)
    live = torch.arange(rows)
    for step in range(settings.sequence_length):
        output = model(
            input_ids=current.to(model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = _sample(output.logits[:, -1], settings.temperature, generator)
        written[live, step] = tokens.int()
        lengths[live] += 1
        advance(float(min(len(live), missing - int(lengths.sum()) + len(live))))
        going = ~torch.isin(tokens, stops)
        if not going.any() or int(lengths.sum()) >= missing:
            break
        if not going.all():
            cache.keep_rows(going.nonzero()[:, 0])
        live, current = live[going], tokens[going, None]
    return _cut([row[:n].numpy() for row, n in zip(written, lengths, strict=True)], missing)


def _sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
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
    full = sequences[:-1] or sequences  # the last one may have been cut
    mean = sum(map(len, full)) / len(full)
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
