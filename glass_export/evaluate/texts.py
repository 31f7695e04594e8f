"""Texts that fidelity is measured on: a prompt and what the dense model answered.

Neither torch nor transformers is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from glass_export.selection import LocalTokens

MIN_STEPS = 8
"""Answers of fewer decode steps say too little and are left out."""


@dataclass(frozen=True, slots=True)
class EvalText:
    """Tokens of a prompt, which of them are scored, and the dense model's continuation.

    ``weights``: 1 for prompt tokens that count in the local scores, else 0.
    """

    prompt: tuple[int, ...]
    weights: tuple[float, ...]
    continuation: tuple[int, ...]
    domain: str

    @property
    def steps(self) -> int:
        """Decode steps N: the first token is predicted by prefill, the last one is never fed."""
        return len(self.continuation) - 1

    def scored(self, tokens: LocalTokens = "user", count: int | None = None) -> tuple[float, ...]:
        """Score weights of the prompt's tokens.

        Args:
            tokens: ``user`` for ``weights``, ``all`` for 1 everywhere.
            count: Only the first so many that are not 0 stay; None keeps all.
        """
        seen = 0
        kept = []
        for weight in self.weights if tokens == "user" else [1.0] * len(self.prompt):
            seen += weight > 0
            kept.append(weight if count is None or seen <= count else 0.0)
        return tuple(kept)
