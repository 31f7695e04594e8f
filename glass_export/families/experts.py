"""What families with a mixture of experts have in common.

Legend: E experts, D model width, F width of an expert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glass_export.errors import UnsupportedModelError
from glass_export.families.activations import activation_of
from glass_export.families.gated import gated_site
from glass_export.spec import EXPERT_WEIGHTS, FfnSite

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def find_expert_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """The experts of every decoder layer whose ``mlp`` has some, and FFNs as wide as an expert.

    Experts that every token goes through (``shared_expert``) and layers without experts whose FFN
    is of another width are no sites: they stay dense.

    Raises:
        UnsupportedModelError: experts of another form, an FFN has biases, the activation is not
            known, or no layer has experts.
    """
    config = model.config
    activation = activation_of(config.hidden_act, config.model_type)
    mlps = [layer.mlp for layer in model.model.layers]
    experts = {i: mlp.experts for i, mlp in enumerate(mlps) if hasattr(mlp, "experts")}
    if not experts:
        raise UnsupportedModelError(
            f"{config.model_type}: no layer has experts, expected a mixture of experts; a model "
            "without any is of another model_type"
        )
    widths = {index: _widths(index, module) for index, module in experts.items()}
    _, d_model, d_ff = next(iter(widths.values()))
    sites: list[FfnSite] = []
    row = 0
    for index, mlp in enumerate(mlps):
        if index in experts:
            site = FfnSite(
                layer=index,
                row=row,
                path=f"model.layers.{index}.mlp.experts",
                d_model=d_model,
                d_ff=d_ff,
                activation=activation,
                experts=widths[index][0],
            )
        elif (site := gated_site(index, row, mlp, activation)).d_ff != d_ff:
            continue
        sites.append(site)
        row += site.rows
    return sites


def _widths(layer: int, experts: nn.Module) -> tuple[int, int, int]:
    """E, D and F of a layer's experts.

    Raises:
        UnsupportedModelError: they are not held as ``gate_up_proj`` [E,2F,D] and ``down_proj``
            [E,D,F], without biases.
    """
    shapes = {name: tuple(part.shape) for name, part in experts.named_parameters()}
    if set(shapes) == set(EXPERT_WEIGHTS) and len(shapes["down_proj"]) == 3:
        count, d_model, d_ff = shapes["down_proj"]
        if shapes["gate_up_proj"] == (count, 2 * d_ff, d_model):
            return count, d_model, d_ff
    raise UnsupportedModelError(
        f"layer {layer}: experts with parameters {shapes}, expected gate_up_proj [E,2F,D] and "
        "down_proj [E,D,F] without biases; transformers 5 holds experts so"
    )
