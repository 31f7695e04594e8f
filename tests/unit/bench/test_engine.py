"""The measurements themselves, on an engine whose predictions are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_export.bench.workers.engine import Conversation, EngineInfo, FloatArray, score

PASSAGES: list[dict[str, Any]] = [
    {"tokens": [0], "mask": [1.0], "continuation": [0, 1, 1]},
    {"tokens": [1, 0], "mask": [1.0, 1.0], "continuation": [1, 0]},
]


class Coin:
    """Predicts token 1 with one probability, whatever came before; density changes nothing."""

    def __init__(self, probability: float, vocab_size: int = 2) -> None:
        self.info = EngineInfo("coin", vocab_size)
        self.fed: list[int] = []
        self._logits = np.full(vocab_size, math.log(1 - probability), np.float32)
        self._logits[1] = math.log(probability)

    def load(self, threads: int, max_length: int) -> EngineInfo:
        return self.info

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        self.fed = list(tokens)
        return self._logits

    def select(self, density: float) -> dict[str, float]:
        return {"fusion_ms": density}

    def decode(self, token: int) -> FloatArray:
        self.fed.append(token)
        return self._logits + 7  # logits are known up to a constant


def test_score_is_kl_from_the_reference_and_perplexity_of_the_text(tmp_path: Path) -> None:
    file = str(tmp_path / "reference.npy")
    dense = score(Coin(0.75), PASSAGES, 1.0, file, save=True)
    assert dense["kl"] == 0.0 and dense["tokens"] == 3
    # Scored are 1, 1 and 0: each continuation without its first token.
    assert dense["ppl"] == pytest.approx((0.75 * 0.75 * 0.25) ** (-1 / 3), rel=1e-6)
    fair = score(Coin(0.5), PASSAGES, 0.5, file, save=False)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert fair["kl"] == pytest.approx(expected, rel=1e-6)
    assert fair["ppl"] == pytest.approx(2.0, rel=1e-6)


def test_score_feeds_the_text_and_not_the_predictions(tmp_path: Path) -> None:
    engine = Coin(0.75)
    score(engine, PASSAGES[:1], None, str(tmp_path / "reference.npy"), save=True)
    assert engine.fed == [0, 0, 1]


def test_a_reference_of_another_model_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "reference.npy")
    score(Coin(0.75), PASSAGES, 1.0, file, save=True)
    with pytest.raises(ValueError, match="vocabulary of 2, expected 3 of 3"):
        score(Coin(0.5, vocab_size=3), PASSAGES, 1.0, file, save=False)
    with pytest.raises(ValueError, match="reference has 3 tokens .* expected 2"):
        score(Coin(0.5), PASSAGES[:1], 1.0, file, save=False)


def test_a_conversation_goes_on_with_the_most_likely_token() -> None:
    engine = Coin(0.75)
    talk = Conversation(engine)
    times = talk.prefill([0, 0], [1.0, 1.0], 0.5)
    assert times["fusion_ms"] == 0.5 and times["ttft_ms"] >= times["prefill_ms"]
    talk.decode(2)
    assert engine.fed == [0, 0, 1, 1]
    assert "fusion_ms" not in talk.prefill([0], [1.0], None)
