"""What families with a gated FFN (gate, up, down) have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glass_export.errors import UnsupportedModelError
from glass_export.families.activations import activation_of
from glass_export.spec import Activation, FfnSite

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def find_gated_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """The FFN of every decoder layer of a model whose layers have an ``mlp`` with three linears.

    Raises:
        UnsupportedModelError: an FFN has biases, or its activation is not known.
    """
    return _sites(model, "gate_proj", "up_proj")


def find_fused_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """The same where gate and up are one linear ``gate_up_proj``, gate first. Raises as above."""
    return _sites(model, "gate_up_proj", "gate_up_proj")


def _sites(model: PreTrainedModel, gate: str, up: str) -> list[FfnSite]:
    config = model.config
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    activation = activation_of(name, config.model_type)
    return [
        gated_site(index, index, layer.mlp, activation, gate, up)
        for index, layer in enumerate(model.model.layers)
    ]


def gated_site(
    index: int,
    row: int,
    mlp: nn.Module,
    activation: Activation,
    gate: str = "gate_proj",
    up: str = "up_proj",
) -> FfnSite:
    """The FFN of layer ``index``. Raises UnsupportedModelError when it has biases."""
    linears = [getattr(mlp, name) for name in (gate, up, "down_proj")]
    if any(linear.bias is not None for linear in linears):
        raise UnsupportedModelError(
            f"layer {index}: the FFN has biases, expected bias-free gate, up and down projections"
        )
    d_model, d_ff = linears[2].weight.shape
    return FfnSite(
        layer=index,
        row=row,
        path=f"model.layers.{index}.mlp",
        d_model=d_model,
        d_ff=d_ff,
        activation=activation,
        gate=gate,
        up=up,
    )
