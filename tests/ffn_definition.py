"""The FFN and its activations in double: what the native kernels are compared with.

Legend: F FFN width, D model width, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc

import numpy as np
from native_calls import F32, Plain
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
    """A layer and its input. Bundles [F,3,D] are of a gated FFN, [F,2,D] of a plain one."""

    bundles: F32
    x: F32
    activation: str
    bias: F32 | None = None

    @property
    def plain(self) -> Plain | None:
        """What NativeCore takes."""
        return None if self.bundles.shape[1] == 3 else Plain(self.bias)

    def _bias(self) -> F64:
        return np.zeros(len(self.bundles)) if self.bias is None else self.bias.astype(np.float64)

    def hidden(self) -> F64:
        """h [S,F] in double."""
        *inputs, _ = self.bundles.astype(np.float64).transpose(1, 2, 0)
        first, *rest = (self.x.astype(np.float64) @ rows for rows in inputs)
        active = DEFINITIONS[self.activation](first + self._bias())
        return active * rest[0] if rest else active

    def down(self) -> F64:
        return self.bundles[:, -1].astype(np.float64)

    def hidden_scale(self) -> F64:
        """The size of h [S,F] if no sum cancelled, and so what its rounding is relative to."""
        *inputs, _ = np.sqrt((self.bundles.astype(np.float64) ** 2).sum(-1)).T
        size = np.sqrt((self.x.astype(np.float64) ** 2).mean(-1, keepdims=True))
        first, *rest = (size * norm for norm in inputs)
        return first * rest[0] if rest else first + np.abs(self._bias())

    def scale(self) -> F64:
        """The same for y [S,1]."""
        down = np.sqrt((self.down() ** 2).sum(-1))
        return np.sqrt(((self.hidden_scale() * down) ** 2).sum(-1, keepdims=True))


def assert_near(actual: F32, expected: F64, scale: F64 | float, tolerance: float = 1e-5) -> None:
    """Within a part of ``scale``, which is at least the size of what was summed."""
    assert np.isfinite(actual).all()
    assert (np.abs(actual - expected) <= tolerance * scale).all()
