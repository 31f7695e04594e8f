"""Semantic operators: the level at which models are traced.

Each module defines one operator of the ``glass_ir`` namespace: its torch definition (the oracle)
and its shape rule. Targets map these operators to their own; ``kernels`` defines those of the
native library (``glass``), for the targets that use it. Nothing here knows a target.
"""

from __future__ import annotations

from glass_export.ops.attention import attention, rotary_attention
from glass_export.ops.experts import route, scoring_experts, sparse_experts
from glass_export.ops.ffn import scoring_ffn, sparse_ffn
from glass_export.ops.layer_norm import layer_norm
from glass_export.ops.positions import positions
from glass_export.ops.rms_norm import add_rms_norm, rms_norm
from glass_export.ops.rope import rope

__all__ = [
    "add_rms_norm",
    "attention",
    "layer_norm",
    "positions",
    "rms_norm",
    "rope",
    "rotary_attention",
    "route",
    "scoring_experts",
    "scoring_ffn",
    "sparse_experts",
    "sparse_ffn",
]
