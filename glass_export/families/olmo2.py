"""OLMo 2: bias-free gated FFN at ``model.layers.*.mlp``."""

from __future__ import annotations

from glass_export.families.gated import find_gated_ffns

MODEL_TYPE = "olmo2"
find_ffns = find_gated_ffns
