"""What a target is: a module that turns captured graphs into files a runtime loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import fx
from transformers import PreTrainedModel

from glass_export.errors import LoweringError
from glass_export.graph import CapturedGraph, Weight, operand
from glass_export.manifest import TargetInfo
from glass_export.recipe import TargetRecipe
from glass_export.spec import FfnSite, Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweringInput:
    """Everything a target needs.

    ``prior``: statistics, each [L,F]; ``metadata``: what a file that stands alone should say about
    the model; ``prefill_chunk``: most tokens of one prefill call.
    """

    prefill: CapturedGraph
    decode: CapturedGraph
    sites: tuple[FfnSite, ...]
    prior: Mapping[Statistic, NDArray[np.float32]]
    prefill_chunk: int
    options: TargetRecipe
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShapes:
    """Sizes of a model's weights, as far as targets store them differently.

    ``matrices``: linears and embeddings outside the FFNs, [N,D], tied ones once; ``tied``: whether
    the head is the embedding; ``others``: weights of norms and biases, in all; ``cache_width``:
    numbers of a token's keys in one layer.
    """

    layers: int
    d_model: int
    d_ff: int
    vocab_size: int
    cache_width: int
    matrices: tuple[tuple[int, int], ...]
    tied: bool
    others: int

    @property
    def ffn_weights(self) -> int:
        """Weights of all FFNs."""
        return 3 * self.layers * self.d_ff * self.d_model

    @property
    def weights(self) -> int:
        """All weights P."""
        return self.ffn_weights + self.others + sum(n * d for n, d in self.matrices)


class Target(Protocol):
    """A target module: ``glass_export.targets.<name>``."""

    TOOLS: tuple[str, ...]
    """Packages whose versions shape the result."""

    def check(self, options: TargetRecipe) -> None:
        """Raise RecipeError when the target has no such form."""
        ...

    def weight_bytes(self, shapes: ModelShapes, options: TargetRecipe) -> Mapping[str, int]:
        """Bytes of the artifact's weights by their part: ``FFNs``, ``linears and embeddings``.

        Raises:
            LoweringError: the target has no such form of weights of these sizes.
        """
        ...

    def numerics(
        self, model: PreTrainedModel, sites: list[FfnSite], options: TargetRecipe
    ) -> AbstractContextManager[bool]:
        """Inside the block ``model`` computes with the numbers that the artifact will have.

        Yields whether it computes smoothly then. Where activations are rounded it does not: the
        smallest difference grows to that of another rounding.
        """
        ...

    def lower(self, source: LoweringInput, folder: Path) -> TargetInfo:
        """Write the target's files into ``folder`` and describe them.

        Raises:
            LoweringError: an operator has no counterpart in the target.
        """
        ...


def ffn_site(graph: CapturedGraph, sites: Sequence[FfnSite], node: fx.Node) -> FfnSite:
    """The FFN that a scoring_ffn or sparse_ffn node is, known by its gate weight.

    Raises:
        LoweringError: it is none of ``sites``.
    """
    gate = graph.weight(operand(node, 1)).name
    for site in sites:
        if gate == f"{site.path}.{site.gate}.weight":
            return site
    raise LoweringError(f"{graph.name}: {gate} is not the gate weight of any FFN site")


def ffn_matrices(graph: CapturedGraph, site: FfnSite) -> tuple[Weight, Weight, Weight]:
    """Gate [F,D], up [F,D] and down [D,F] of a site, as the graph holds them."""
    by_name = {weight.name: weight for weight in graph.weights.values()}
    gate, up, down = (
        by_name[f"{site.path}.{part}.weight"] for part in (site.gate, site.up, site.down)
    )
    return gate, up, down
