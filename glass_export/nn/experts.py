"""The two forms of a layer's experts, the router before them, and a look at their activations.

Legend: S tokens, D model width, E experts, k experts of a token, F width of an expert.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from glass_export import ops
from glass_export.errors import UnsupportedModelError
from glass_export.nn.ffn import ScoringFfn, SparseFfn
from glass_export.nn.state import current
from glass_export.ops.experts import mixture
from glass_export.ops.ffn import ACTIVATIONS
from glass_export.spec import EXPERT_WEIGHTS, FfnSite


class Experts(ABC):
    """Computes the experts of a site in a way of its own.

    Weights are looked up at each use, as torch.export swaps them.
    """

    def __init__(self, model: nn.Module, site: FfnSite) -> None:
        self.site = site
        self._module = model.get_submodule(site.path)

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """Gate and up [E,2F,D], and down [E,D,F]."""
        gate_up, down = (self._module.get_parameter(name) for name in EXPERT_WEIGHTS)
        return gate_up, down

    @abstractmethod
    def __call__(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Shape: x [S,D], experts of each token int64 [S,k], their weights [S,k] -> [S,D]."""


class ScoringExperts(Experts):
    """Dense experts that leave their local score sums in the step state."""

    def __call__(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """See Experts."""
        state = current()
        y, abs_sum, sq_sum = ops.scoring_experts(
            x, index, weight, *self.weights, state.score_weights, self.site.activation
        )
        state.abs_sums.append(abs_sum)
        state.sq_sums.append(sq_sum)
        mixed: Tensor = y
        return mixed


class SparseExperts(Experts):
    """Experts of the neurons that the step state names for them."""

    def __call__(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """See Experts."""
        place = self.site.row, self.site.activation
        y: Tensor = ops.sparse_experts(x, index, weight, *self.weights, current().indices, *place)
        return y


EXPERTS: Mapping[type, type[Experts]] = {ScoringFfn: ScoringExperts, SparseFfn: SparseExperts}
"""What stands for experts where FFNs are of a form."""

Watch = Callable[[int, Tensor, Tensor], Tensor]
"""Given an expert, the places of its tokens [n] and their activations h [n,F], gives those that
go on [n,F]."""


class WatchedExperts(Experts):
    """Experts as the model has them, whose activations h are shown to ``watch``; differentiable."""

    def __init__(self, model: nn.Module, site: FfnSite, watch: Watch) -> None:
        super().__init__(model, site)
        self.watch = watch

    def __call__(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """See Experts."""
        gate_up, down = self.weights
        activation = ACTIVATIONS[self.site.activation]

        def compute(expert: int, tokens: Tensor) -> Tensor:
            gate, up = nn.functional.linear(x[tokens], gate_up[expert]).chunk(2, -1)
            hidden = self.watch(expert, tokens, activation(gate) * up)
            return nn.functional.linear(hidden, down[expert])

        return mixture(x, index, weight, compute)


class SemanticRouter(nn.Module):
    """Stands for a router that sends tokens to their likeliest experts, by softmax."""

    def __init__(self, original: nn.Module, name: str) -> None:
        super().__init__()
        self.weight = original.get_parameter("weight")
        self.count = int(original.top_k)  # type: ignore[arg-type]  # set by transformers
        experts, width = self.weight.shape
        random = torch.Generator().manual_seed(0)
        probe = torch.randn(4, width, generator=random).to(self.weight.device)
        for normalise in (True, False):
            self.normalise = normalise
            same = zip(self(probe)[1:], original(probe)[1:], strict=True)
            if all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in same):
                return
        raise UnsupportedModelError(
            f"{name}: {type(original).__name__} is not a router by softmax to the {self.count} "
            f"likeliest of {experts} experts; other ones are not supported"
        )

    def forward(self, x: Tensor) -> tuple[None, Tensor, Tensor]:
        """Shape: x [S,D] -> no logits, weights [S,k], experts int64 [S,k]."""
        scores, index = ops.route(x, self.weight, self.count, self.normalise)
        return None, scores, index
