"""Compare an artifact with its reference, on the artifact's own runtime. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_export.log import progress
from glass_export.runtime.base import Backend, LocalStatistics
from glass_export.verify.reference import (
    PromptReference,
    Reference,
    Tolerance,
    logit_error,
    score_error,
)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: ``value`` may be at most ``limit``."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return bool(self.value <= self.limit)


def compare(backend: Backend, reference: Reference) -> dict[str, Any]:
    """Run all checks and report them.

    Args:
        backend: The artifact's engine.
        reference: What the eager model computed, and the errors that count as equal.

    Returns:
        ``{"passed", "tolerance", "checks": [{"name", "value", "limit", "passed"}]}``; greedy checks
        count the tokens that differ where the eager model's choice was not a tie.
    """
    tolerance = reference.tolerance
    checks: list[Check] = []
    with progress("verify", len(reference.prompts), "prompts") as task:
        for number, prompt in enumerate(reference.prompts):
            for check in _checks(backend, prompt, tolerance):
                checks.append(Check(f"prompt {number}: {check.name}", check.value, check.limit))
            task.advance()
    return {
        "passed": all(check.passed for check in checks),
        "tolerance": asdict(tolerance),
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
    }


def _checks(backend: Backend, prompt: PromptReference, allowed: Tolerance) -> Iterator[Check]:
    ids, start = prompt.input_ids, len(prompt.input_ids)
    logits, sums = _prefill(backend, ids, 0, backend.prefill_chunk)
    yield Check("prefill logits", logit_error(logits, prompt.prefill_logits), allowed.logits)
    yield Check("scores A", score_error(sums.abs_sum, prompt.abs_sum), allowed.scores)
    yield Check("scores squared", score_error(sums.sq_sum, prompt.sq_sum), allowed.scores)

    backend.select(None)
    greedy = _decode_greedy(backend, logits, start, len(prompt.greedy))
    tie = allowed.logits * float(prompt.prefill_logits.std())
    yield Check("greedy tokens", _mismatches(greedy, prompt.greedy, prompt.greedy_margin, tie), 0)

    for position, token in enumerate(prompt.greedy, start):
        last = backend.decode(int(token), position)
    resumed, _ = _prefill(backend, ids, start + len(prompt.greedy), backend.prefill_chunk)
    yield Check("prefill after decode", logit_error(resumed, prompt.resumed_logits), allowed.logits)

    chunked, parts = _prefill(backend, ids, 0, max(1, start // 3))
    yield Check("prefill in chunks", logit_error(chunked, prompt.prefill_logits), allowed.logits)
    yield Check("scores in chunks", score_error(parts.abs_sum, prompt.abs_sum), allowed.scores)

    backend.select(prompt.indices)
    tokens = []
    for position, token in enumerate(prompt.greedy[:-1], start):
        last = backend.decode(int(token), position)
        tokens.append(int(last.argmax()))
    backend.select(None)
    wrong = (np.array(tokens) != prompt.sparse_tokens) & (prompt.sparse_margin > tie)
    yield Check("sparse tokens", int(wrong.sum()), 0)
    yield Check("sparse logits", logit_error(last, prompt.sparse_logits), allowed.logits)


def _prefill(
    backend: Backend, ids: NDArray[np.int64], position: int, chunk: int
) -> tuple[NDArray[np.float32], LocalStatistics]:
    sums = LocalStatistics.zeros(backend.dims.rows, backend.dims.d_ff)
    for begin in range(0, len(ids), chunk):
        part = ids[begin : begin + chunk]
        weights, last = np.ones(len(part), np.float32), np.array([len(part) - 1])
        result = backend.prefill(part, position + begin, weights, last)
        sums.add(result.statistics)
    return result.logits[0], sums


def _decode_greedy(
    backend: Backend, logits: NDArray[np.float32], start: int, count: int
) -> NDArray[np.int64]:
    tokens = [int(logits.argmax())]
    for position in range(start, start + count - 1):
        tokens.append(int(backend.decode(tokens[-1], position).argmax()))
    return np.array(tokens)


def _mismatches(
    got: NDArray[np.int64], wanted: NDArray[np.int64], margin: NDArray[np.float32], tie: float
) -> int:
    """Tokens that differ. A free-running sequence ends at a tie, where either choice is right."""
    different = got != wanted
    if not different.any():
        return 0
    first = int(np.argmax(different))
    return 0 if margin[first] <= tie else int(different.sum())
