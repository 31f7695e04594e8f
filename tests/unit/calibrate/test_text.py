from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model
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


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text"])
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


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text"])
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
