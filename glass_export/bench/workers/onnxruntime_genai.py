"""onnxruntime-genai, on a model folder made by its model builder."""

from __future__ import annotations

import json

import onnxruntime_genai as genai

from glass_export.bench.workers.engine import EngineInfo, FloatArray


class GenaiEngine:
    """See :class:`.engine.Engine`."""

    info: EngineInfo

    def __init__(self, model: str) -> None:
        """Take the model folder ``model``."""
        self._path = model

    def load(self, threads: int, max_length: int) -> EngineInfo:
        """See Engine.load."""
        config = genai.Config(self._path)
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = genai.Model(config)
        params = genai.GeneratorParams(self._model)
        params.set_search_options(max_length=max_length)
        self._generator = genai.Generator(self._model, params)
        width = self.prefill([0], [0.0]).size
        self.info = EngineInfo(f"onnxruntime-genai {genai.__version__}", width)
        return self.info

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        """See Engine.prefill."""
        self._generator.rewind_to(0)
        return self._run(tokens)

    def select(self, density: float) -> dict[str, float]:
        """Nothing to choose: onnxruntime-genai is dense."""
        return {}

    def decode(self, token: int) -> FloatArray:
        """See Engine.decode."""
        return self._run([token])

    def _run(self, tokens: list[int]) -> FloatArray:
        self._generator.append_tokens(tokens)
        logits: FloatArray = self._generator.get_logits().reshape(-1)
        return logits
