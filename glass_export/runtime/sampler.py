"""Choosing the next token from logits: same order and meaning as Hugging Face's generate.

Legend: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import GenerationError
from glass_export.runtime.base import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token (greedy).
        top_k: Keep the k most likely tokens, those equal to the k-th included; 0 keeps all.
        top_p: Keep the fewest most likely tokens whose probabilities reach p; 1 keeps all.
        min_p: Keep tokens at least this share as likely as the most likely one; 0 keeps all.
        repetition_penalty: Above 1 makes tokens of the prompt and answer less likely; 1 is none.
        seed: Of the random numbers; None takes a fresh one.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, self.temperature >= 0, "0 (greedy) or more")
        _require("top_k", self.top_k, self.top_k >= 0, "0 (all tokens) or more", whole=True)
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1 (all tokens)")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "0 (all tokens) to 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, penalty > 0, "above 0 (1 changes nothing)")
        if self.seed is not None:
            _require("seed", self.seed, self.seed >= 0, "0 or more, or None", whole=True)


def _require(name: str, value: float, valid: bool, expected: str, whole: bool = False) -> None:
    if not valid or not math.isfinite(value) or (whole and not isinstance(value, int)):
        kind = "a whole number, " if whole else ""
        raise GenerationError(f"sampling: {name} is {value!r}, expected {kind}{expected}")


class Sampler:
    """Chooses tokens; equal parameters with a seed choose equal tokens."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._random = np.random.default_rng(params.seed)

    def sample(self, logits: FloatArray, context: Sequence[int]) -> int:
        """Choose the next token.

        Args:
            logits: Scores of the next token [V]; not changed.
            context: Tokens of the prompt and the answer so far, for the repetition penalty.

        Raises:
            GenerationError: the logits hold NaN or +infinity, or nothing above -infinity.
        """
        require_finite(logits)
        if self.params.temperature == 0:
            return int(np.argmax(self._penalised(logits, context)))
        tokens, probabilities = self.distribution(logits, context)
        cumulative = np.cumsum(probabilities)
        draw = self._random.random() * cumulative[-1]
        return int(tokens[np.searchsorted(cumulative, draw, side="right")])

    def distribution(
        self, logits: FloatArray, context: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Tokens that may be drawn, ascending, and their probabilities; for temperature above 0."""
        params = self.params
        scores = self._penalised(logits, context)
        tokens = np.arange(scores.size)
        if 0 < params.top_k < scores.size:
            kth = np.partition(scores, -params.top_k)[-params.top_k]
            tokens = np.flatnonzero(scores >= kth)
        probabilities = _softmax(scores[tokens].astype(np.float64) / params.temperature)
        if params.top_p < 1:
            tokens, probabilities = _keep(
                tokens, probabilities, _nucleus(probabilities, params.top_p)
            )
        if params.min_p > 0:
            least = params.min_p * probabilities.max()
            tokens, probabilities = _keep(tokens, probabilities, probabilities >= least)
        return tokens, probabilities

    def _penalised(self, logits: FloatArray, context: Sequence[int]) -> FloatArray:
        penalty = np.float32(self.params.repetition_penalty)
        if penalty == 1 or not context:
            return logits
        seen = np.unique(np.asarray(context, np.int64))
        scores = logits.copy()
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
        return scores


def require_finite(logits: FloatArray) -> None:
    """Check that a token can be chosen.

    Raises:
        GenerationError: the logits hold NaN or +infinity, or nothing above -infinity.
    """
    peak = float(logits.max())  # NaN if any logit is
    if not math.isfinite(peak):
        raise GenerationError(
            f"logits: the largest is {peak}, expected a finite number; the artifact or its "
            "key/value cache is damaged: run `glass-export verify` on it, or export it again"
        )


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(scores - scores.max())
    return np.asarray(exponentials / exponentials.sum(), np.float64)


def _nucleus(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.bool_]:
    """The fewest most likely tokens that reach ``top_p``; tokens equal to the last one stay too."""
    tail = 1 - top_p  # what may be dropped: all tokens below its share of V together are less
    rising = np.sort(probabilities[probabilities >= tail / probabilities.size])
    first = np.searchsorted(np.cumsum(rising) + (1 - rising.sum()), tail, side="right")
    return np.asarray(probabilities >= rising[min(int(first), rising.size - 1)])


def _keep(
    tokens: NDArray[np.int64], probabilities: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    kept = probabilities[mask]
    return tokens[mask], kept / kept.sum()
