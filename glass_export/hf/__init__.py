"""Artifacts as models of Hugging Face's transformers."""

from __future__ import annotations

from glass_export.hf.causal_lm import GlassConfig, GlassForCausalLM

__all__ = ["GlassConfig", "GlassForCausalLM"]
