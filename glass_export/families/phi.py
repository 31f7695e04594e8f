"""Phi-1, Phi-1.5 and Phi-2: plain FFN at ``model.layers.*.mlp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glass_export.families.plain import find_plain_ffns
from glass_export.spec import FfnSite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL_TYPE = "phi"


def find_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """See find_plain_ffns."""
    return find_plain_ffns(
        model,
        path="model.layers.{}.mlp",
        up="fc1",
        act="activation_fn",
        down="fc2",
        activation=model.config.hidden_act,
    )
