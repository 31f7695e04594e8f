"""Plain descriptions that every layer of the package shares. Standard library only.

Legend: L layers, D model width, F FFN width, K kept neurons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from glass_export.errors import GenerationError

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Statistic = Literal["A", "I", "G", "F"]
STATISTICS: tuple[Statistic, ...] = ("A", "I", "G", "F")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDims:
    """Sizes of a decoder model."""

    layers: int
    d_model: int
    d_ff: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnSite:
    """Where one layer's gated FFN is and how it is built.

    ``path`` is the module path inside the Hugging Face model; ``gate``, ``up`` and ``down`` are the
    names of its three bias-free linears, of shapes [F,D], [F,D] and [D,F].
    """

    layer: int
    path: str
    d_model: int
    d_ff: int
    activation: Activation
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, element type and shape of a graph input or output; a string is a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSignature:
    """Inputs and outputs of one graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def kept_neurons(density: float, d_ff: int) -> int:
    """Number of neurons K that a layer of width ``d_ff`` keeps at ``density``.

    Args:
        density: Share of neurons to keep, 0 < density <= 1.
        d_ff: FFN width F.

    Returns:
        round(density * F), at least 1 and at most F.

    Raises:
        GenerationError: density is not a finite number in (0, 1].
    """
    if not (isinstance(density, (int, float)) and math.isfinite(density) and 0.0 < density <= 1.0):
        raise GenerationError(
            f"density: got {density!r}, expected a number above 0 and at most 1 "
            "(the share of FFN neurons to keep); use 1.0 for the dense model"
        )
    return min(d_ff, max(1, round(density * d_ff)))
