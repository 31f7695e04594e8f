"""OLMoE: experts at ``model.layers.*.mlp``."""

from __future__ import annotations

from glass_export.families.experts import find_expert_ffns

MODEL_TYPE = "olmoe"
find_ffns = find_expert_ffns
