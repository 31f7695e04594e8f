"""What the swapped parts of a model share during one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class StepState:
    """Inputs and collected outputs of a pass. Caches are lists of L tensors [1,G,C,E]."""

    position: Tensor
    key_caches: list[Tensor]
    value_caches: list[Tensor]
    score_weights: Tensor | None = None
    indices: Tensor | None = None
    abs_sums: list[Tensor] = field(default_factory=list)
    sq_sums: list[Tensor] = field(default_factory=list)


_CURRENT: ContextVar[StepState] = ContextVar("glass_step_state")


def current() -> StepState:
    """The state of the running pass."""
    return _CURRENT.get()


@contextmanager
def step(state: StepState) -> Iterator[StepState]:
    """Make ``state`` current inside the block."""
    token = _CURRENT.set(state)
    try:
        yield state
    finally:
        _CURRENT.reset(token)


class PassThroughCache:
    """The cache object shown to Hugging Face modules: attention itself writes the real caches."""

    is_compileable = False

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Hand the new keys and values on to attention."""
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        """Positions are given explicitly, so nothing depends on this."""
        return 0

    def get_query_offset(self, *_: Any) -> int:
        """As get_seq_length."""
        return 0

    def get_mask_sizes(self, *_: Any, **__: Any) -> tuple[int, int]:
        """Masks are part of the attention operator; this only has to be valid."""
        return 1, 0
