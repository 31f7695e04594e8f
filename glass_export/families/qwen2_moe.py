"""Qwen2 MoE and Qwen1.5 MoE: experts at ``model.layers.*.mlp``, and one for every token."""

from __future__ import annotations

from glass_export.families.experts import find_expert_ffns

MODEL_TYPE = "qwen2_moe"
find_ffns = find_expert_ffns
