"""Running artifacts. Imports neither torch, transformers nor onnx."""

from glass_export.runtime.sampler import SamplingParams
from glass_export.runtime.session import Generation, Session
from glass_export.runtime.stats import GenerationStats

__all__ = ["Generation", "GenerationStats", "SamplingParams", "Session"]
