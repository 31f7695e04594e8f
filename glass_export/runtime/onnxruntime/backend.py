"""The engine for artifacts of the target ``onnx``.

The key/value cache is one buffer per layer, written in place by both graphs.

Legend: T tokens of a call, N wanted logit rows, L layers, F FFN width, K kept neurons, G key/value
heads, C cache length, E head width, V vocabulary.
"""

from __future__ import annotations

import numpy as np

from glass_export.artifact import Artifact
from glass_export.runtime.base import (
    FloatArray,
    IndexArray,
    LocalStatistics,
    PrefillResult,
    TokenArray,
)
from glass_export.runtime.onnxruntime.decoders import make_decoder
from glass_export.runtime.onnxruntime.graphs import Buffer, Graph, Loader
from glass_export.runtime.request import checked_context, checked_threads


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
            NativeError: the operators that the artifact needs are missing or cannot be built.
            GenerationError: max_length or threads is out of range.
        """
        manifest = artifact.manifest
        self.dims = manifest.model.dims
        self.prefill_chunk = manifest.target.prefill_chunk
        self.max_length = checked_context(max_length, manifest.model.max_length)
        loader = Loader(artifact, checked_threads(threads))
        self._allocate()
        self._prefill = loader.load("prefill")
        self._bind_prefill(self._prefill)
        self._decoder = make_decoder(manifest.target, loader, self.dims, self._bind_decode)

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
        """See Backend.select; what it costs depends on the form, see decoders."""
        self._decoder.select(indices)

    def decode(self, token: int, position: int) -> FloatArray:
        """See Backend.decode. Shape: logits [V]."""
        self._token[0, 0], self._position[0] = token, position
        self._decoder.run()
        logits: FloatArray = self._logits[0, 0]
        return logits

    def close(self) -> None:
        """Drop the sessions and their buffers; the mapping goes with the last view of it."""
        for name in ("_prefill", "_decoder", "_caches"):
            self.__dict__.pop(name, None)

    def _allocate(self) -> None:
        """Make the inputs and outputs whose memory stays the same."""
        dims = self.dims
        shape = (dims.rows, dims.d_ff)
        self._abs_sum, self._sq_sum = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._position, self._token = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
        self._logits = np.empty((1, 1, dims.vocab_size), np.float32)
        cache = (1, dims.kv_heads, self.max_length, dims.head_dim)
        self._caches = {
            f"{kind}.{layer}": Buffer.over(np.zeros(cache, np.float32))
            for layer in range(dims.layers)
            for kind in ("key", "value")
        }

    def _bind_prefill(self, graph: Graph) -> None:
        graph.input("position", self._position)
        graph.output("abs_sum", self._abs_sum)
        graph.output("sq_sum", self._sq_sum)
        self._bind_caches(graph)

    def _bind_decode(self, graph: Graph) -> None:
        graph.input("input_ids", self._token)
        graph.input("position", self._position)
        graph.output("logits", self._logits)
        self._bind_caches(graph)

    def _bind_caches(self, graph: Graph) -> None:
        """Bind one buffer a layer as past and present: written in place."""
        for name, cache in self._caches.items():
            graph.input(f"past_{name}", cache)
            graph.output(f"present_{name}", cache)
