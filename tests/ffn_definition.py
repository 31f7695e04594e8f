"""The gated FFN and its activations in double: what the native kernels are compared with.

Legend: F FFN width, D model width, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc

import numpy as np
from native_calls import F32
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def _sigmoid(x: F64) -> F64:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def _gelu_tanh(x: F64) -> F64:
    return x * _sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


DEFINITIONS: dict[str, Callable[[F64], F64]] = {
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * np.vectorize(erfc)(-x / np.sqrt(2)),
    "gelu_tanh": _gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
}


@dataclass(frozen=True)
class Ffn:
    """A layer and its input."""

    bundles: F32
    x: F32
    activation: str

    def hidden(self) -> F64:
        """h [S,F] in double."""
        gate, up, _ = self.bundles.astype(np.float64).transpose(1, 2, 0)
        x = self.x.astype(np.float64)
        return DEFINITIONS[self.activation](x @ gate) * (x @ up)

    def down(self) -> F64:
        return self.bundles[:, 2].astype(np.float64)

    def hidden_scale(self) -> F64:
        """The size of h [S,F] if no sum cancelled, and so what its rounding is relative to."""
        gate, up, _ = np.sqrt((self.bundles.astype(np.float64) ** 2).sum(-1)).T
        return (self.x.astype(np.float64) ** 2).mean(-1, keepdims=True) * gate * up

    def scale(self) -> F64:
        """The same for y [S,1]."""
        down = np.sqrt((self.down() ** 2).sum(-1))
        return np.sqrt(((self.hidden_scale() * down) ** 2).sum(-1, keepdims=True))


def assert_near(actual: F32, expected: F64, scale: F64 | float, tolerance: float = 1e-5) -> None:
    """Within a part of ``scale``, which is at least the size of what was summed."""
    assert np.isfinite(actual).all()
    assert (np.abs(actual - expected) <= tolerance * scale).all()
