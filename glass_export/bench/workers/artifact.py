"""An artifact, driven as ``glass-export run`` drives it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from glass_export.artifact import Artifact
from glass_export.bench.workers.engine import EngineInfo
from glass_export.runtime.base import FloatArray
from glass_export.runtime.driver import Driver
from glass_export.runtime.engines import ENGINES, open_backend
from glass_export.runtime.stats import Stopwatch


class ArtifactEngine:
    """See :class:`.engine.Engine`."""

    info: EngineInfo

    def __init__(self, model: str) -> None:
        """Open the artifact in the directory ``model``; its engine is imported with it.

        Raises:
            ArtifactError: the artifact is damaged.
        """
        self._artifact = Artifact.open(Path(model))
        known = ENGINES.get(self._artifact.manifest.target.name)
        if known:
            import_module(known[0])

    def load(self, threads: int, max_length: int) -> EngineInfo:
        """See Engine.load. Raises ArtifactError, NativeError and GenerationError as the engine."""
        artifact, manifest = self._artifact, self._artifact.manifest
        backend = open_backend(artifact, threads=threads, max_length=max_length)
        self._driver = Driver(backend, artifact.prior(), manifest.selection)
        package = ENGINES[manifest.target.name][2]
        self.info = EngineInfo(f"{package} {version(package)}", backend.dims.vocab_size)
        return self.info

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        """See Engine.prefill."""
        self._driver.reset()
        return self._driver.prefill(tokens, mask).logits

    def select(self, density: float) -> dict[str, float]:
        """See Engine.select.

        Returns:
            ``fusion_ms``: from the prompt's statistics to the neurons (scores, ranks, fusion,
            top-K); ``select_ms``: handing them to the engine, which packs them if it has to.
        """
        watch = Stopwatch()
        self._driver.select(watch, density=density)
        fusion = watch.ms("fusion")
        return {"fusion_ms": fusion, "select_ms": watch.ms("select") - fusion}

    def decode(self, token: int) -> FloatArray:
        """See Engine.decode."""
        return self._driver.decode(token)
