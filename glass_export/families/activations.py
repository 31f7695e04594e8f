"""Activations by the names that Hugging Face configurations give them."""

from __future__ import annotations

from glass_export.errors import UnsupportedModelError
from glass_export.spec import Activation

HF_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}


def activation_of(name: str, model_type: str) -> Activation:
    """The activation that a configuration of ``model_type`` names.

    Raises:
        UnsupportedModelError: it is not known.
    """
    if name not in HF_ACTIVATIONS:
        raise UnsupportedModelError(
            f"FFN activation {name!r} of {model_type} is not supported; "
            f"expected one of {', '.join(sorted(HF_ACTIVATIONS))}"
        )
    return HF_ACTIVATIONS[name]
