"""Phi-3, Phi-3.5 and Phi-4: gated FFN at ``model.layers.*.mlp``, gate and up in one linear."""

from __future__ import annotations

from glass_export.families.gated import find_fused_ffns

MODEL_TYPE = "phi3"
find_ffns = find_fused_ffns
