"""GPT-NeoX and Pythia: plain FFN at ``gpt_neox.layers.*.mlp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glass_export.families.plain import find_plain_ffns
from glass_export.spec import FfnSite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL_TYPE = "gpt_neox"


def find_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """See find_plain_ffns."""
    return find_plain_ffns(
        model,
        path="gpt_neox.layers.{}.mlp",
        up="dense_h_to_4h",
        act="act",
        down="dense_4h_to_h",
        activation=model.config.hidden_act,
    )
