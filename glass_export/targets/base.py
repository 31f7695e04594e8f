"""What a target is: a module that turns captured graphs into files a runtime loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from transformers import PreTrainedModel

from glass_export.errors import LoweringError, UnsupportedModelError
from glass_export.graph import CapturedGraph, Weight
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

    @property
    def rows(self) -> int:
        """Rows of scores, prior and indices: L."""
        return sum(site.rows for site in self.sites)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShapes:
    """Sizes of a model's weights, as far as targets store them differently.

    ``rows``: of neurons, one a layer or one an expert of a layer, F in each; ``routed``: whether
    there are experts; ``gated``: whether FFNs have a gate; ``cache_width``: numbers of a token's
    keys in one layer; ``matrices``: linears and embeddings outside the FFNs, [N,D], tied ones once;
    ``tied``: whether the head is the embedding; ``others``: weights of norms and biases, in all.
    """

    layers: int
    rows: int
    routed: bool
    d_model: int
    d_ff: int
    gated: bool
    vocab_size: int
    cache_width: int
    matrices: tuple[tuple[int, int], ...]
    tied: bool
    others: int

    @property
    def ffn_weights(self) -> int:
        """Weights of all FFNs."""
        return (3 if self.gated else 2) * self.rows * self.d_ff * self.d_model

    @property
    def weights(self) -> int:
        """All weights P."""
        return self.ffn_weights + self.others + sum(n * d for n, d in self.matrices)


def require_expert_operators(shapes: ModelShapes, options: TargetRecipe) -> None:
    """Raise UnsupportedModelError where a mixture of experts would have to do without them."""
    if shapes.routed and not options.custom_ops:
        raise UnsupportedModelError(
            f"target {options.name}: a mixture of experts has no form of stock operators, which "
            "cannot skip the experts that a token does not go through; use --custom-ops "
            "(target.custom_ops=true)"
        )


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
            UnsupportedModelError: it has none of a mixture of experts.
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


@dataclass(frozen=True, slots=True)
class SiteWeights:
    """An FFN's weights, as a graph holds them: gate [F,D] and up [F,D], or up alone where the FFN
    is plain; down [D,F]; bias [F] of a plain FFN that has one.
    """

    inputs: tuple[Weight, ...]
    down: Weight
    bias: Weight | None

    @property
    def gated(self) -> bool:
        """Whether there is a gate."""
        return len(self.inputs) == 2

    @property
    def all(self) -> tuple[Weight, ...]:
        """Every weight."""
        bias = () if self.bias is None else (self.bias,)
        return (*self.inputs, self.down, *bias)

    def bundle(self) -> Weight:
        """The matrices neuron by neuron, [F,3,D] or, of a plain FFN, [F,2,D]; down is last."""
        d_model, d_ff = self.down.shape

        def load() -> Tensor:
            rows = [weight.load() for weight in self.inputs]
            return torch.stack([*rows, self.down.load().T], dim=1)

        return Weight("bundle", (d_ff, len(self.inputs) + 1, d_model), self.down.dtype, load)


class ExpertWeights(SiteWeights):
    """Those of all experts of a layer: ``inputs`` is gate over up [E,2F,D], down is [E,D,F]."""

    @property
    def gated(self) -> bool:
        """See SiteWeights."""
        return True

    def bundle(self) -> Weight:
        """The matrices neuron by neuron, those of expert 0 first, [E F,3,D]; down is last."""
        (gate_up,) = self.inputs
        experts, d_model, d_ff = self.down.shape

        def load() -> Tensor:
            gate, up = gate_up.load().chunk(2, dim=1)
            rows = torch.stack([gate, up, self.down.load().transpose(1, 2)], dim=2)
            return rows.flatten(0, 1)

        return Weight("bundle", (experts * d_ff, 3, d_model), self.down.dtype, load)


def ffn_site(graph: CapturedGraph, sites: Sequence[FfnSite], node: fx.Node) -> FfnSite:
    """The FFN or experts that a node is, known by its down weight.

    Raises:
        LoweringError: it is none of ``sites``.
    """
    known = {site.weights[-1]: site for site in sites}
    for part in node.all_input_nodes:
        if part.name in graph.weights and graph.weight(part).name in known:
            return known[graph.weight(part).name]
    raise LoweringError(f"{graph.name}: {node.name} has the down weight of no FFN site")


def ffn_weights(graph: CapturedGraph, site: FfnSite) -> SiteWeights:
    """The weights of a site, as the graph holds them."""
    by_name = {weight.name: weight for weight in graph.weights.values()}
    *inputs, down = (by_name[name] for name in site.weights)
    if site.experts:
        return ExpertWeights(tuple(inputs), down, None)
    return SiteWeights(tuple(inputs), down, by_name.get(site.bias))
