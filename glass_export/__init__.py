"""Export a Hugging Face decoder LLM with training-free, prompt-aware FFN sparsity (GLASS).

The names below are loaded on first use, so that importing the package costs nothing and running
an artifact imports neither torch nor transformers.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glass_export.artifact import Artifact
    from glass_export.hf import GlassForCausalLM
    from glass_export.pipeline import export
    from glass_export.recipe import Recipe, resolve
    from glass_export.runtime import Session
    from glass_export.verify import verify_artifact

__version__ = "0.1.0"
__all__ = [
    "Artifact", "GlassForCausalLM", "Recipe", "Session", "__version__", "export", "resolve",
    "verify_artifact",
]  # fmt: skip

_HOME = {
    "Artifact": "artifact",
    "GlassForCausalLM": "hf",
    "Recipe": "recipe",
    "Session": "runtime",
    "export": "pipeline",
    "resolve": "recipe",
    "verify_artifact": "verify",
}


# Matrix products of torch give the same bits for any number of threads: by itself MKL, which
# computes them on x86, adds up in an order that depends on the threads when a matrix has few rows.
# It reads the setting at its first product. Source: oneMKL developer guide, "Getting Started with
# Conditional Numerical Reproducibility".
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
