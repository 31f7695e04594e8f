"""A key/value cache that is written in place, for sampling many sequences at once.

Legend: B rows, H key/value heads, C capacity in tokens, W head width, S tokens of one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

STORAGE = torch.bfloat16
"""Number format of stored keys and values: half of float32, and what such models are trained in."""


class InPlaceCache(Cache):
    """Cache of ``layers`` layers and ``capacity`` tokens that is never copied as it grows."""

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(capacity) for _ in range(layers)])


class _Layer(DynamicLayer):
    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers has no types here
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate [B,H,C,W] twice."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (
            torch.empty((*x.shape[:2], self.capacity, x.shape[3]), dtype=STORAGE, device=x.device)
            for x in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [B,H,S,W] and return all that is stored."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return (
            self.keys[:, :, : self.length].to(self.dtype),
            self.values[:, :, : self.length].to(self.dtype),
        )

    def get_seq_length(self) -> int:
        """Tokens stored."""
        return self.length
