"""ONNX Runtime behind the Backend protocol: any stock build on a CPU.

Weights are mapped from the artifact's weights file once and shared by all sessions; the key/value
cache is one buffer per layer, written in place.

Legend: T tokens of a call, N wanted logit rows, L layers, D model width, F FFN width, K kept
neurons, G key/value heads, C cache length, E head width, V vocabulary.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError
from glass_export.runtime.base import (
    FloatArray,
    IndexArray,
    LocalStatistics,
    PrefillResult,
    TokenArray,
)
from glass_export.runtime.request import checked_context, checked_threads

MINIMUM_VERSION = (1, 23)


class OnnxRuntimeBackend:
    """Runs ``prefill.onnx`` and ``decode.onnx``; see runtime.base.Backend."""

    def __init__(
        self, artifact: Artifact, *, threads: int | None = None, max_length: int | None = None
    ) -> None:
        """Map the weights and load the graphs.

        Args:
            artifact: An artifact of the target ``onnx``.
            threads: Threads of one operator; None: all processors this process may use.
            max_length: Context length in tokens, at most the artifact's; None: the artifact's.

        Raises:
            ArtifactError: ONNX Runtime is too old or refuses a graph.
            GenerationError: max_length or threads is out of range.
        """
        _check_version()
        manifest = artifact.manifest
        self.dims = manifest.model.dims
        self.prefill_chunk = manifest.target.prefill_chunk
        self.max_length = checked_context(max_length, manifest.model.max_length)
        self._weights = _map_weights(artifact)
        self._prefill, self._pack, self._decode = (
            _load(artifact, role, _options(threads, self._weights, arena=role == "decode"))
            for role in ("prefill", "pack", "decode")
        )
        self._rows: dict[str, _Buffer] = {}
        self._bind_fixed()
        self._bind_caches()
        self.select(None)

    def prefill(
        self,
        tokens: TokenArray,
        position: int,
        score_weights: FloatArray,
        logit_rows: TokenArray,
    ) -> PrefillResult:
        """See Backend.prefill. Shape: logits [N,V]."""
        self._position[0] = position
        logits = np.empty((1, len(logit_rows), self.dims.vocab_size), np.float32)
        self._prefill.input("input_ids", np.asarray(tokens, np.int64)[None])
        self._prefill.input("score_weights", np.asarray(score_weights, np.float32))
        self._prefill.input("logit_rows", np.asarray(logit_rows, np.int64))
        self._prefill.output("logits", logits)
        self._prefill.run()
        statistics = LocalStatistics(
            self._abs_sum.copy(), self._sq_sum.copy(), float(np.sum(score_weights))
        )
        return PrefillResult(logits[0], statistics)

    def select(self, indices: IndexArray | None) -> None:
        """See Backend.select. Dense decoding reads the mapped weights in place, without packing."""
        if indices is None:
            self._bind_rows(self._dense_rows())
            return
        kept = indices.shape[1]
        if not self._rows or len(self._rows["down.0"].array) != kept:
            self._rows = {}  # free the old rows everywhere before the new ones are there
            self._bind_rows(self._dense_rows())
            self._pack.unbind()
            self._rows = self._allocate_rows(kept)
        self._pack.input("ffn_idx", np.ascontiguousarray(indices, np.int32))
        for name, rows in self._rows.items():
            self._pack.output(name, rows)
        self._pack.run()
        self._bind_rows(self._rows)

    def decode(self, token: int, position: int) -> FloatArray:
        """See Backend.decode. Shape: logits [V]."""
        self._token[0, 0], self._position[0] = token, position
        self._decode.run()
        logits: FloatArray = self._logits[0, 0]
        return logits

    def close(self) -> None:
        """Drop the sessions and their buffers; the mapping goes with the last view of it."""
        for name in ("_prefill", "_pack", "_decode", "_rows", "_weights"):
            self.__dict__.pop(name, None)

    def _bind_fixed(self) -> None:
        """Bind the inputs and outputs whose memory stays the same."""
        shape = (self.dims.layers, self.dims.d_ff)
        self._abs_sum, self._sq_sum = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._position, self._token = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
        self._logits = np.empty((1, 1, self.dims.vocab_size), np.float32)
        self._prefill.input("position", self._position)
        self._prefill.output("abs_sum", self._abs_sum)
        self._prefill.output("sq_sum", self._sq_sum)
        self._decode.input("input_ids", self._token)
        self._decode.input("position", self._position)
        self._decode.output("logits", self._logits)

    def _bind_caches(self) -> None:
        """Bind one buffer a layer as past and present of both graphs: written in place."""
        dims = self.dims
        shape = (1, dims.kv_heads, self.max_length, dims.head_dim)
        for layer in range(dims.layers):
            for kind in ("key", "value"):
                cache = _Buffer.over(np.zeros(shape, np.float32))
                for graph in (self._prefill, self._decode):
                    graph.input(f"past_{kind}.{layer}", cache)
                    graph.output(f"present_{kind}.{layer}", cache)

    def _dense_rows(self) -> dict[str, _Buffer]:
        return {
            f"{part}.{layer}": self._weights[f"ffn.{layer}.{part}"]
            for layer in range(self.dims.layers)
            for part in ("gate_up", "down")
        }

    def _allocate_rows(self, kept: int) -> dict[str, _Buffer]:
        shapes = {"gate_up": (2, kept, self.dims.d_model), "down": (kept, self.dims.d_model)}
        return {
            f"{part}.{layer}": _Buffer.over(np.empty(shape, np.float32))
            for layer in range(self.dims.layers)
            for part, shape in shapes.items()
        }

    def _bind_rows(self, rows: dict[str, _Buffer]) -> None:
        for name, buffer in rows.items():
            self._decode.input(name, buffer)


@dataclass(frozen=True, slots=True)
class _Buffer:
    """An array and the OrtValue over its memory; older engines do not keep the array alive."""

    array: NDArray[np.generic]
    value: ort.OrtValue

    @classmethod
    def over(cls, array: NDArray[np.generic]) -> _Buffer:
        return cls(array, ort.OrtValue.ortvalue_from_numpy(array))


class _Graph:
    """A loaded graph with its inputs and outputs bound to memory, which it keeps alive."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session, self._binding = session, session.io_binding()
        self._bound: dict[str, _Buffer] = {}

    def input(self, name: str, memory: NDArray[np.generic] | _Buffer) -> None:
        self._bound[name] = buffer = memory if isinstance(memory, _Buffer) else _Buffer.over(memory)
        self._binding.bind_ortvalue_input(name, buffer.value)

    def output(self, name: str, memory: NDArray[np.generic] | _Buffer) -> None:
        self._bound[name] = buffer = memory if isinstance(memory, _Buffer) else _Buffer.over(memory)
        self._binding.bind_ortvalue_output(name, buffer.value)

    def unbind(self) -> None:
        """Let go of all memory bound so far."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._bound.clear()

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)


def _check_version() -> None:
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if version < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ArtifactError(
            f"ONNX Runtime {ort.__version__} is too old, expected {wanted} or newer; "
            f"pip install 'onnxruntime>={wanted}'"
        )


def _map_weights(artifact: Artifact) -> dict[str, _Buffer]:
    target = artifact.manifest.target
    if target.weights is None:
        raise ArtifactError(f"{artifact.path}: the manifest names no weights file")
    with Path(artifact.file(target.weights)).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        entry.name: _Buffer.over(
            np.frombuffer(
                mapped, entry.dtype, count=int(np.prod(entry.shape)), offset=entry.offset
            ).reshape(entry.shape)
        )
        for entry in target.tensors
    }


def _options(
    threads: int | None, weights: dict[str, _Buffer], *, arena: bool
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = checked_threads(threads)
    options.log_severity_level = 3
    # An arena keeps the largest prompt's activations; one token's are small.
    options.enable_cpu_mem_arena = arena
    # A packed private copy per session would more than double the memory.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Idle threads of one session must not take processors from the others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, buffer in weights.items():
        options.add_initializer(name, buffer.value)
    return options


def _load(artifact: Artifact, role: str, options: ort.SessionOptions) -> _Graph:
    path = artifact.graph(role)
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as problem:
        raise ArtifactError(
            f"{path}: ONNX Runtime {ort.__version__} cannot load this graph: {problem}"
        ) from problem
    return _Graph(session)
