"""llama.cpp through the C API that the package llama-cpp-python binds."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np

from glass_export.bench.workers.engine import EngineInfo, FloatArray


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silence(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Receives llama.cpp's log."""


class LlamaCppEngine:
    """See :class:`.engine.Engine`. CPU only; a prompt is one batch."""

    info: EngineInfo

    def __init__(self, model: str) -> None:
        """Take the .gguf file ``model``."""
        self._path = model
        llama_cpp.llama_log_set(_silence, ctypes.c_void_p())
        llama_cpp.llama_backend_init()

    def load(self, threads: int, max_length: int) -> EngineInfo:
        """See Engine.load. Raises ValueError when llama.cpp refuses the file."""
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(self._path.encode(), options)
        if not self._model:
            raise ValueError(f"{self._path}: llama.cpp cannot load this file; expected a GGUF")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = max_length
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise ValueError(
                f"{self._path}: llama.cpp cannot hold a context of {max_length} tokens"
            )
        self.info = EngineInfo(
            f"llama-cpp-python {llama_cpp.__version__}",
            llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model)),
        )
        return self.info

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        """See Engine.prefill."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        return self._run(tokens)

    def select(self, density: float) -> dict[str, float]:
        """Nothing to choose: llama.cpp is dense."""
        return {}

    def decode(self, token: int) -> FloatArray:
        """See Engine.decode."""
        return self._run([token])

    def _run(self, tokens: list[int]) -> FloatArray:
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(
            self._context, llama_cpp.llama_batch_get_one(ids, len(tokens))
        )
        if status:
            raise ValueError(f"llama_decode refused {len(tokens)} tokens with status {status}")
        last = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(last, shape=(self.info.vocab_size,))
