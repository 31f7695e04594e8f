"""What families with a plain FFN, down(act(up(x))), have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from glass_export.errors import UnsupportedModelError
from glass_export.families.activations import activation_of
from glass_export.spec import FfnSite

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def find_plain_ffns(
    model: PreTrainedModel, *, path: str, up: str, act: str, down: str, activation: str
) -> list[FfnSite]:
    """The FFN of every layer, whose module calls two linears with an activation between them.

    Args:
        model: A decoder model.
        path: The module path of a layer's FFN, with {} for the number of the layer.
        up: Name of the first linear there.
        act: Name of the activation's module.
        down: Name of the second linear.
        activation: What the configuration calls the activation.

    Raises:
        UnsupportedModelError: the activation is not known, or a part is no linear.
    """
    kind = activation_of(activation, model.config.model_type)
    sites = []
    for layer in range(model.config.num_hidden_layers):
        site_path = path.format(layer)
        for name in (up, down):
            linear = model.get_submodule(f"{site_path}.{name}")
            if not isinstance(linear, nn.Linear):
                raise UnsupportedModelError(
                    f"{site_path}.{name}: got {type(linear).__name__}, expected Linear; "
                    "only FFNs of two linear layers are supported"
                )
        weight = model.get_submodule(f"{site_path}.{down}").get_parameter("weight")
        d_model, d_ff = weight.shape
        sites.append(
            FfnSite(
                layer=layer,
                row=layer,
                path=site_path,
                d_model=d_model,
                d_ff=d_ff,
                activation=kind,
                gate=None,
                up=up,
                act=act,
                down=down,
            )
        )
    return sites
