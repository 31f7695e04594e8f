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
NullStart = Literal["null", "template", "mixed"]
"""What text of a model itself starts from: nothing, a chat template, or both."""
STATISTICS: tuple[Statistic, ...] = ("A", "I", "G", "F")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDims:
    """Sizes of a decoder model.

    ``expert_rows``: of a mixture of experts the rows of scores, prior and indices, one for every
    expert of a layer; 0 otherwise, where there is a row for every layer.
    """

    layers: int
    d_model: int
    d_ff: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    expert_rows: int = 0

    @property
    def rows(self) -> int:
        """Rows of scores, prior and indices: L in their shapes."""
        return self.expert_rows or self.layers


LOGIT_ROWS = 8
"""Most rows of logits of one call of an ExecuTorch program: its memory is planned for them."""

EXPERT_WEIGHTS = ("gate_up_proj", "down_proj")
"""What the parameters of experts are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnSite:
    """Where one layer's FFN is and how it is built.

    ``row`` is the first of its rows in scores, prior and indices: it has one, or one for each of
    its ``experts``. Experts are a module ``path`` that holds the parameters ``gate_up_proj``
    [E,2F,D], gate first, and ``down_proj`` [E,D,F]; it has no linears.

    ``path`` is the path, inside the Hugging Face model, of the module that holds its linears:
    ``gate`` [F,D], ``up`` [F,D] and ``down`` [D,F]. A gated FFN has all three, without biases, and
    nothing but it is in that module; one linear [2F,D] with the rows of gate before those of up is
    named by both ``gate`` and ``up``. A plain FFN has no ``gate``, and may have biases; its module
    calls ``up``, the module named ``act`` and ``down`` one after the other, and may be a whole
    layer.
    """

    layer: int
    row: int
    path: str
    d_model: int
    d_ff: int
    activation: Activation
    gate: str | None = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    act: str | None = None
    experts: int = 0

    @property
    def rows(self) -> int:
        """How many rows of scores, prior and indices it has."""
        return self.experts or 1

    @property
    def linears(self) -> tuple[str, ...]:
        """Paths of the linears, ``down`` last; of experts none."""
        if self.experts:
            return ()
        names = dict.fromkeys((self.gate, self.up, self.down))
        return tuple(f"{self.path}.{name}" for name in names if name is not None)

    @property
    def fused(self) -> bool:
        """Whether gate and up are one linear."""
        return self.gate == self.up

    @property
    def parts(self) -> tuple[str, ...]:
        """What gate (if there is one), up and down are called in captured graphs."""
        if self.fused:
            return ("gate", "up", self.down)
        return (self.up, self.down) if self.gate is None else (self.gate, self.up, self.down)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights in captured graphs, that of down last."""
        if self.experts:
            return tuple(f"{self.path}.{name}" for name in EXPERT_WEIGHTS)
        return tuple(f"{self.path}.{part}.weight" for part in self.parts)

    @property
    def bias(self) -> str:
        """Name of the bias of ``up`` in captured graphs, if it has one."""
        return f"{self.path}.{self.up}.bias"


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


def layer_budgets(
    density: float, d_ff: int, layers: int, dense_layers: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """Number of neurons that every layer keeps; together at most those of equal layers.

    Of a mixture of experts, the layers are the rows of its experts.

    With K neurons a layer at ``density`` and n layers that keep all F, the others keep
    (L K - n F) // (L - n) each. As long as that is at least ceil(K / 2): of ``dense_layers`` the
    longest beginning counts that leaves the others as many.

    Args:
        density: Share of all layers' neurons to keep, 0 < density <= 1.
        d_ff: FFN width F.
        layers: Number of layers L.
        dense_layers: Layers that keep all neurons, the most important first.

    Returns:
        L numbers, each F or at least ceil(K / 2), of sum above L K - L and at most L K.

    Raises:
        GenerationError: density is not a finite number in (0, 1]; a dense layer is not in 0..L-1,
            or given twice.
    """
    kept = kept_neurons(density, d_ff)
    outside = [layer for layer in dense_layers if not 0 <= layer < layers]
    if outside or len(set(dense_layers)) < len(dense_layers):
        raise GenerationError(
            f"dense_layers: got {list(dense_layers)}, expected layers 0 to {layers - 1}, each "
            "given once; give layers of this model, or none"
        )
    rest, dense = kept, 0
    for count in range(1, min(len(dense_layers), layers - 1) + 1):
        left = (layers * kept - count * d_ff) // (layers - count)
        if left < (kept + 1) // 2:
            break
        rest, dense = left, count
    full = set(dense_layers[:dense])
    return tuple(d_ff if layer in full else rest for layer in range(layers))
