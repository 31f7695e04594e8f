"""Compare rules on held-out text: KL to the dense model, with the dense passes made once.

Legend: T texts, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import Chooser, Method
from glass_export.evaluate.protocol import as_mask, run_texts
from glass_export.evaluate.summary import Mean
from glass_export.evaluate.texts import EvalText
from glass_export.log import progress

LAYER_TEXTS = 4
LAYER_STEPS = 48
"""Texts, and decode steps of each, that single layers are measured on."""


class Judge:
    """Rules so far with their KL; the texts are the same for all, so that they can be compared."""

    def __init__(self, model: EagerModel, texts: Sequence[EvalText], chooser: Chooser) -> None:
        self._model, self._texts, self._chooser = model, texts, chooser
        self.results: dict[Method, Mean] = {}

    def compare(self, methods: Sequence[Method]) -> None:
        """Measure rules that are new."""
        new = [method for method in methods if method not in self.results]
        if not new:
            return
        for method, traces in zip(
            new, run_texts(self._model, self._texts, new, self._chooser), strict=True
        ):
            self.results[method] = Mean.of(np.array([trace.kl.mean() for trace in traces]))

    @property
    def best(self) -> Method:
        """The rule of the smallest mean KL; of equal ones the first."""
        return min(self.results, key=lambda method: self.results[method].value)

    def layer_kl(self, method: Method) -> list[float]:
        """KL with one layer sparse alone, by that rule, of every layer [L]."""
        rows = []
        texts = self._texts[:LAYER_TEXTS]
        with progress("measuring layers", len(texts), "texts") as task:
            for index, text in enumerate(texts):
                rows.append(self._layers(method, text, index))
                task.advance()
        return [float(value) for value in np.mean(rows, axis=0)]

    def _layers(self, method: Method, text: EvalText, index: int) -> np.ndarray:
        dense = self._model.dense(text)
        neurons = self._chooser.neurons(method, dense.prompt(), dense.prompt, index)
        layers, width = dense.magnitudes.shape[0], dense.magnitudes.shape[2]
        alone = torch.ones(layers, layers, width, dtype=torch.bool)
        chosen = as_mask(neurons, width)
        for layer in range(layers):
            alone[layer, layer] = chosen[layer]
        stop = min(LAYER_STEPS, text.steps)
        return np.asarray(self._model.sparse(dense, alone, 0, stop).kl.mean(1))
