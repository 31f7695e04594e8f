"""Contestants of a benchmark, each in a process of its own.

These modules are also run by other interpreters, which have neither this package nor what it
needs: apart from :mod:`.artifact` they import the standard library, NumPy and their runtime alone.
"""

from __future__ import annotations

KINDS = {
    "artifact": "ArtifactEngine",
    "llama_cpp": "LlamaCppEngine",
    "onnxruntime_genai": "GenaiEngine",
    "xnnpack": "XnnpackEngine",
}
"""Module of this package -> its engine class."""
