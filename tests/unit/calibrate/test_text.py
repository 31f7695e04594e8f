from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, tiny_model
from transformers import DynamicCache, PreTrainedModel

from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.kv import InPlaceCache
from glass_export.calibrate.text import TextSettings, _next_logits, sample, write_text

NO_CACHE = CalibrationCache(None, {})


def settings(**changes: object) -> TextSettings:
    base: dict[str, object] = {
        "tokens": 500,
        "sequence_length": 24,
        "batch": 8,
        "temperature": 1.0,
        "seed": 3,
        "prefix": (0,),
        "stop_ids": tuple(range(1, 20)),
    }
    return TextSettings(**(base | changes))  # type: ignore[arg-type]  # names are those above


@pytest.mark.parametrize("tokens", [256, 500, 1003])
def test_exactly_the_tokens_asked_for_and_stops_only_at_the_end(tokens: int) -> None:
    sequences = write_text(tiny_model("llama"), settings(tokens=tokens), NO_CACHE)
    assert sum(map(len, sequences)) == tokens
    stopped = 0
    for sequence in sequences:
        assert 1 <= len(sequence) <= 24 and sequence.dtype == np.int32
        stops = np.isin(sequence, range(1, 20))
        assert not stops[:-1].any()
        stopped += int(stops[-1])
    assert stopped > 5  # early stops were replaced by further sequences


def one_by_one(model: PreTrainedModel, s: TextSettings) -> list[list[int]]:
    """The text by definition: every token from a run over the whole of its document."""
    texts: list[list[int]] = []
    for number in range(100):
        if (missing := s.tokens - sum(map(len, texts))) <= 0:
            return texts
        seed = int(np.random.SeedSequence([s.seed, number]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        rows = min(s.batch, math.ceil(missing / s.sequence_length))
        missing = min(missing, rows * s.sequence_length)
        written: list[list[list[int]]] = [[[*s.prefix[:1]]] for _ in range(rows)]
        for _ in range(math.ceil(missing / rows) + len(s.prefix) - 1):
            logits = [model(torch.tensor([row[-1]])).logits[0, -1] for row in written]
            drawn = sample(torch.stack(logits), s.temperature, generator).tolist()
            for row, token in zip(written, drawn, strict=True):
                document = row[-1]
                inside = len(document) < len(s.prefix)
                document.append(s.prefix[len(document)] if inside else token)
                if not inside and token in s.stop_ids:
                    row.append([*s.prefix[:1]])
        for document in [document for row in written for document in row]:
            if missing > 0 and (own := document[len(s.prefix) :]):
                texts.append(own[:missing])
                missing -= len(texts[-1])
    raise AssertionError("100 rounds and no end")


@pytest.mark.parametrize("prefix", [(0,), (0, 7), (5, 0, 9, 5)], ids=len)
@torch.no_grad()
def test_text_is_that_written_one_by_one(
    prefix: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glass_export.calibrate.kv.STORAGE", torch.float32)
    model = tiny_model("llama")
    # The prefix holds a stop token: only a written one ends a document.
    wanted = settings(tokens=270, prefix=prefix, stop_ids=(*range(1, 40), 0))
    sequences = [sequence.tolist() for sequence in write_text(model, wanted, NO_CACHE)]
    assert sequences == one_by_one(model, wanted)
    assert sum(map(len, sequences)) == 270
    restarted = len(sequences) > 2 * math.ceil(270 / wanted.sequence_length)
    assert restarted, "no document began in the middle of a row"


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_a_prefix_of_any_length_takes_nothing_from_the_text(length: int) -> None:
    wanted = settings(prefix=(0, *range(20, 19 + length)), stop_ids=(), tokens=300)
    sequences = write_text(tiny_model("llama"), wanted, NO_CACHE)
    assert sum(map(len, sequences)) == 300 and max(map(len, sequences)) <= 24
    assert len(sequences) == math.ceil(300 / 24)


def test_without_stop_tokens_one_round_gives_full_sequences() -> None:
    sequences = write_text(
        tiny_model("llama"), settings(tokens=256, sequence_length=32, stop_ids=()), NO_CACHE
    )
    assert [len(s) for s in sequences] == [32] * 8


def test_text_survives_the_cache(tmp_path: Path) -> None:
    model = tiny_model("llama")
    store = CalibrationCache(tmp_path, {"a": 1})
    sequences = write_text(model, settings(), store)
    again = [s for part in CalibrationCache(tmp_path, {"a": 1}).load_text() for s in part]
    assert len(again) == len(sequences)
    assert all(np.array_equal(a, b) for a, b in zip(again, sequences, strict=True))
    assert CalibrationCache(tmp_path, {"a": 2}).load_text() == []


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, float("-inf"), 2.0, -1.0]]).expand(20000, -1)
    drawn = sample(logits.clone(), 0.7, torch.Generator().manual_seed(0))
    frequency = torch.bincount(drawn, minlength=5) / 20000
    expected = torch.softmax(logits[0] / 0.7, -1)
    assert frequency[2] == 0
    torch.testing.assert_close(frequency, expected, atol=0.015, rtol=0)


def decode(model: PreTrainedModel, cache: object, tokens: torch.Tensor) -> torch.Tensor:
    rows = [
        model(input_ids=tokens[:, i : i + 1], past_key_values=cache, use_cache=True).logits
        for i in range(tokens.shape[1])
    ]
    return torch.cat(rows, 1)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_in_place_cache_decodes_like_that_of_transformers(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glass_export.calibrate.kv.STORAGE", torch.float32)
    model = tiny_model(family)
    tokens = torch.randint(2, 320, (4, 20), generator=torch.Generator().manual_seed(0))
    cache = InPlaceCache(3, 20)
    expected = decode(model, DynamicCache(config=model.config), tokens)
    got = decode(model, cache, tokens)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_a_sequence_begun_late_in_a_row_sees_nothing_before_it(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glass_export.calibrate.kv.STORAGE", torch.float32)
    model = tiny_model(family)
    tokens = torch.randint(2, 320, (3, 20), generator=torch.Generator().manual_seed(0))
    begins = torch.tensor([0, 7, 13])  # where the row's second document begins
    cache = InPlaceCache(3, 20)
    for step in range(20):
        starts = torch.where(begins <= step, begins, 0)
        got = _next_logits(model, cache, tokens[:, step], starts, step)
    for row, begin in enumerate(begins.tolist()):
        expected = model(input_ids=tokens[row : row + 1, begin:]).logits[0, -1]
        torch.testing.assert_close(got[row], expected, atol=1e-4, rtol=1e-4)
