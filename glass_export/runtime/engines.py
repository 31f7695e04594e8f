"""The execution engines, by the target that an artifact was exported for."""

from __future__ import annotations

from importlib import import_module

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactCode, ArtifactError
from glass_export.log import third_party_silence
from glass_export.runtime.base import Backend
from glass_export.schema import suggest

ENGINES = {
    "onnx": ("glass_export.runtime.onnxruntime", "OnnxRuntimeBackend", "onnxruntime"),
    "executorch": ("glass_export.runtime.executorch", "ExecuTorchBackend", "executorch"),
}
"""Target name -> module, class, and the package that the engine needs."""


def open_backend(
    artifact: Artifact, *, threads: int | None = None, max_length: int | None = None
) -> Backend:
    """Open the engine for an artifact's target.

    Raises:
        ArtifactError: no engine for the target, or its package is not installed.
    """
    target = artifact.manifest.target.name
    if target not in ENGINES:
        raise ArtifactError(
            f"{artifact.path}: target {target!r} has no engine here; "
            f"{suggest(target, list(ENGINES))}; update glass-export",
            ArtifactCode.UNSUPPORTED,
        )
    module, name, package = ENGINES[target]
    try:
        with third_party_silence():
            engine = getattr(import_module(module), name)
    except ModuleNotFoundError as problem:
        if problem.name != package:
            raise
        raise ArtifactError(
            f"{artifact.path}: target {target!r} needs the package {package!r}, which is not "
            f"installed; run `pip install {package}`",
            ArtifactCode.UNSUPPORTED,
        ) from problem
    backend: Backend = engine(artifact, threads=threads, max_length=max_length)
    return backend
