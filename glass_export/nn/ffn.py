"""The two forms of a model's FFN. Both refer to the original weights; neither copies them."""

from __future__ import annotations

from torch import Tensor, nn

from glass_export import ops
from glass_export.nn.state import current
from glass_export.spec import FfnSite


def ffn_weights(original: nn.Module, site: FfnSite) -> tuple[Tensor, Tensor, Tensor]:
    """Gate [F,D], up [F,D] and down [D,F] of a model's FFN: its parameters, or views of them."""
    gate, up, down = (
        original.get_submodule(name).get_parameter("weight")
        for name in (site.gate, site.up, site.down)
    )
    if site.fused:
        return gate[: site.d_ff], up[site.d_ff :], down
    return gate, up, down


class _Rows(nn.Module):
    """Holds a weight under the name that graphs know it by."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        is_parameter = isinstance(weight, nn.Parameter)
        self.weight = weight if is_parameter else nn.Parameter(weight, requires_grad=False)


class _GatedFfn(nn.Module):
    def __init__(self, original: nn.Module, site: FfnSite) -> None:
        super().__init__()
        self.site = site
        for name, weight in zip(site.parts, ffn_weights(original, site), strict=True):
            self.add_module(name, _Rows(weight))

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gate [F,D], up [F,D] and down [D,F]."""
        gate, up, down = (self.get_parameter(f"{name}.weight") for name in self.site.parts)
        return gate, up, down


class ScoringFfn(_GatedFfn):
    """Dense FFN that leaves its local score sums in the step state."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [1,S,D] -> [1,S,D]."""
        state = current()
        out: Tensor
        out, abs_sum, sq_sum = ops.scoring_ffn(
            x, *self.weights(), state.score_weights, self.site.activation
        )
        state.abs_sums.append(abs_sum)
        state.sq_sums.append(sq_sum)
        return out


class SparseFfn(_GatedFfn):
    """FFN of the neurons that the step state names for this layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: x [1,S,D] -> [1,S,D]."""
        out: Tensor = ops.sparse_ffn(
            x, *self.weights(), current().indices, self.site.layer, self.site.activation
        )
        return out
