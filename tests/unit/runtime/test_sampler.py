"""Sampling against Hugging Face's own logits processors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as hf

from glass_export.errors import GenerationError
from glass_export.runtime.base import FloatArray
from glass_export.runtime.sampler import Sampler, SamplingParams

CONTEXT = [3, 17, 17, 40, 299, 5]


def logits(size: int = 300, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal(size) * 4).astype(np.float32)


def reference(scores: FloatArray, params: SamplingParams) -> np.ndarray[Any, Any]:
    """Probabilities [V] by transformers, in the order in which its generate() applies them."""
    steps: list[Any] = []
    if params.repetition_penalty != 1:
        steps.append(hf.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(hf.TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(hf.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        steps.append(hf.TopPLogitsWarper(params.top_p))
    if params.min_p:
        steps.append(hf.MinPLogitsWarper(params.min_p))
    result = torch.from_numpy(scores.copy())[None]
    for step in steps:
        result = step(torch.tensor([CONTEXT]), result)
    return result.double().softmax(-1)[0].numpy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 1},
        {"top_k": 40},
        {"top_k": 300},
        {"top_k": 5000},
        {"top_p": 0.9},
        {"top_p": 0.01},
        {"min_p": 0.05},
        {"min_p": 1.0},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"temperature": 1.7, "top_k": 50, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 1.1},
    ],
)
def test_distribution_is_that_of_transformers(options: dict[str, Any], seed: int) -> None:
    params = SamplingParams(**{"temperature": 1.0, **options})
    scores = logits(seed=seed)
    tokens, probabilities = Sampler(params).distribution(scores, CONTEXT)
    actual = np.zeros(scores.size)
    actual[tokens] = probabilities
    expected = reference(scores, params)
    np.testing.assert_array_equal(actual > 0, expected > 0)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_top_k_keeps_tokens_equal_to_the_last_one() -> None:
    scores = np.array([1, 5, 3, 3, 3, 0], np.float32)
    tokens, _ = Sampler(SamplingParams(temperature=1.0, top_k=2)).distribution(scores, [])
    assert tokens.tolist() == [1, 2, 3, 4]


def test_greedy_takes_the_first_of_the_most_likely() -> None:
    scores = np.array([0, 2, 7, 7, 1], np.float32)
    assert Sampler(SamplingParams()).sample(scores, []) == 2
    assert Sampler(SamplingParams(repetition_penalty=2.0)).sample(scores, [2]) == 3


def test_the_logits_are_left_as_they_were() -> None:
    scores = logits()
    before = scores.copy()
    params = SamplingParams(temperature=0.5, top_k=9, top_p=0.5, min_p=0.1, repetition_penalty=3.0)
    Sampler(params).sample(scores, CONTEXT)
    np.testing.assert_array_equal(scores, before)


def test_equal_seeds_draw_equal_tokens() -> None:
    def draws(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed))
        return [sampler.sample(logits(seed=step), []) for step in range(40)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


def test_draws_follow_the_distribution() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(SamplingParams(temperature=1.0, seed=0))
    counts = np.bincount([sampler.sample(scores, []) for _ in range(20_000)], minlength=4)
    np.testing.assert_allclose(counts / 20_000, [0.5, 0.3, 0.15, 0.05], atol=0.015)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_logits_without_a_choice_are_errors(bad: list[float], temperature: float) -> None:
    with pytest.raises(GenerationError, match="logits"):
        Sampler(SamplingParams(temperature=temperature)).sample(np.array(bad, np.float32), [])


def test_tokens_at_minus_infinity_are_never_drawn() -> None:
    scores = np.array([-np.inf, 0.0, -np.inf], np.float32)
    sampler = Sampler(SamplingParams(temperature=2.0, seed=0))
    assert {sampler.sample(scores, []) for _ in range(50)} == {1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("seed", -1),
    ],
)
def test_unusable_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(GenerationError, match=f"{name} is"):
        dataclasses.replace(SamplingParams(), **{name: value})
