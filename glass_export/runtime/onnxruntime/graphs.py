"""Graphs of an artifact as sessions whose inputs and outputs are bound to memory.

The weights file is mapped once, and all sessions get the same memory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactCode, ArtifactError
from glass_export.runtime.onnxruntime.model_file import Attributes, resized
from glass_export.runtime.onnxruntime.operators import Operators

MINIMUM_VERSION = (1, 23)


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array and the OrtValue over its memory; older engines do not keep the array alive."""

    array: NDArray[Any]
    value: ort.OrtValue

    @classmethod
    def over(cls, array: NDArray[Any]) -> Buffer:
        """A buffer over an array's memory."""
        return cls(array, ort.OrtValue.ortvalue_from_numpy(array))


class Graph:
    """A loaded graph with its inputs and outputs bound to memory, which it keeps alive."""

    def __init__(self, session: ort.InferenceSession, weights: Mapping[str, Buffer]) -> None:
        """``weights``: what the session reads in place, so it must live as long."""
        self._session, self._binding, self.weights = session, session.io_binding(), weights
        self._bound: dict[str, Buffer] = {}

    def input(self, name: str, memory: NDArray[Any] | Buffer) -> None:
        """Bind an input."""
        self._bound[name] = buffer = memory if isinstance(memory, Buffer) else Buffer.over(memory)
        self._binding.bind_ortvalue_input(name, buffer.value)

    def output(self, name: str, memory: NDArray[Any] | Buffer) -> None:
        """Bind an output."""
        self._bound[name] = buffer = memory if isinstance(memory, Buffer) else Buffer.over(memory)
        self._binding.bind_ortvalue_output(name, buffer.value)

    def unbind(self) -> None:
        """Let go of all memory bound so far."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._bound.clear()

    def run(self) -> None:
        """Compute the bound outputs from the bound inputs."""
        self._session.run_with_iobinding(self._binding)


class Loader:
    """Loads the graphs of one artifact.

    ``weights``: every tensor of the weights file by name, in the mapping.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        """Map the weights.

        Raises:
            ArtifactError: ONNX Runtime is too old, or the manifest names no weights.
            NativeError: the operators that the artifact needs cannot be built or loaded.
        """
        _check_version()
        self.weights = _map_weights(artifact)
        self._artifact, self._threads = artifact, threads
        target = artifact.manifest.target
        self._operators = Operators() if target.custom_ops else None
        # A packed copy of float32 weights in each session would more than double the memory. Those
        # of MatMulNBits are fast only when they are packed; the project's operators never pack.
        self._prepacking = target.dtype != "fp32" and not target.custom_ops

    def load(self, role: str, *, arena: bool = False) -> Graph:
        """The graph with ``role``.

        Args:
            role: Of the graph.
            arena: Keep the memory of activations between runs. An arena holds that of the largest
                prompt for good.

        Raises:
            ArtifactError: ONNX Runtime refuses the graph.
            NativeError: it was exported for another version of the operators.
        """
        path = self._artifact.graph(role)
        if self._operators is not None:
            self._operators.check(path)
        session = self._session(path, path, self._options(self.weights, arena))
        return Graph(session, self.weights)

    def load_resized(
        self, role: str, changed: Mapping[str, NDArray[Any]], attributes: Mapping[str, Attributes]
    ) -> Graph:
        """The graph with ``role``, with other weights of other sizes; see model_file.resized.

        Args:
            role: Of the graph.
            changed: Weights by name, instead of those of the artifact.
            attributes: What to set on the nodes that read them.
        """
        path = self._artifact.graph(role)
        buffers = {name: Buffer.over(array) for name, array in changed.items()}
        weights = {**self.weights, **buffers}
        shapes = {name: array.shape for name, array in changed.items()}
        model = resized(path.read_bytes(), shapes, attributes)
        options = self._options(weights, arena=True)
        # Of a model in memory the runtime does not know where the weights file lies.
        folder = os.fspath(path.parent.absolute())
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
        return Graph(self._session(path, model, options), weights)

    def _session(
        self, path: Path, model: Path | bytes, options: ort.SessionOptions
    ) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            raise ArtifactError(
                f"{path}: ONNX Runtime {ort.__version__} cannot load this graph: {problem}",
                ArtifactCode.GRAPH,
            ) from problem

    def _options(self, weights: Mapping[str, Buffer], arena: bool) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = arena
        if not self._prepacking:
            options.add_session_config_entry("session.disable_prepacking", "1")
        # Idle threads of one session must not take processors from the others.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        for name, buffer in weights.items():
            options.add_initializer(name, buffer.value)
        if self._operators is not None:
            self._operators.register(options, self._threads)
        return options


def _check_version() -> None:
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if version < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ArtifactError(
            f"ONNX Runtime {ort.__version__} is too old, expected {wanted} or newer; "
            f"pip install 'onnxruntime>={wanted}'",
            ArtifactCode.UNSUPPORTED,
        )


def _map_weights(artifact: Artifact) -> dict[str, Buffer]:
    target = artifact.manifest.target
    if target.weights is None:
        raise ArtifactError(
            f"{artifact.path}: the manifest names no weights file", ArtifactCode.MANIFEST
        )
    with Path(artifact.file(target.weights)).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        entry.name: Buffer.over(
            np.frombuffer(
                mapped, entry.dtype, count=int(np.prod(entry.shape)), offset=entry.offset
            ).reshape(entry.shape)
        )
        for entry in target.tensors
    }
