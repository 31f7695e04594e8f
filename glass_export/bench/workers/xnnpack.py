"""A dense ExecuTorch program for XNNPACK whose one method ``forward`` takes a token.

Inputs: token int64 [1,1] and position int64 [1]; output: logits [1,1,V].
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  (registers its kernels)
import torch
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers llama::*)
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime

from glass_export.bench.workers.engine import EngineInfo, FloatArray


class XnnpackEngine:
    """See :class:`.engine.Engine`. A prompt goes in token by token, so prefill is not timed."""

    info: EngineInfo

    def __init__(self, model: str) -> None:
        """Take the program file ``model``."""
        self._path = Path(model)

    def load(self, threads: int, max_length: int) -> EngineInfo:
        """See Engine.load; memory is reserved for the program's own context.

        Raises:
            ValueError: the program has another interface, or a shorter context.
        """
        portable_lib._unsafe_reset_threadpool(threads)
        self._program = Runtime.get().load_program(self._path)
        if self._program.method_names != {"forward"}:
            found = ", ".join(sorted(self._program.method_names))
            raise ValueError(f"{self._path}: it has the methods {found}, expected 'forward' alone")
        self._method = self._program.load_method("forward")
        self._require_context(max_length)
        vocabulary = self.prefill([0], [0.0]).size
        self.info = EngineInfo(f"executorch {version('executorch')}", vocabulary, prefills=False)
        return self.info

    def _require_context(self, length: int) -> None:
        self._position = length - 1
        try:
            self.decode(0)
        except RuntimeError as problem:
            raise ValueError(
                f"{self._path}: it has no context of {length} tokens, which the artifact has; "
                f"make it with --max-length {length}"
            ) from problem

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        """See Engine.prefill."""
        self._position = 0
        for token in tokens[:-1]:
            self.decode(token)
        return self.decode(tokens[-1])

    def select(self, density: float) -> dict[str, float]:
        """Nothing to choose: the program is dense."""
        return {}

    def decode(self, token: int) -> FloatArray:
        """See Engine.decode."""
        inputs = [torch.tensor([[token]]), torch.tensor([self._position])]
        # As our own runtime calls: copies would wake torch's threads, which then spin.
        (logits,) = self._method._method.call(inputs, clone_outputs=False)
        self._position += 1
        row: FloatArray = logits.numpy().reshape(-1)
        return row
