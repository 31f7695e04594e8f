"""The paper's protocol: short prompt, long answer of the dense model, teacher-forced sparsely.

Legend: T texts, N decode steps of a text, N' of them measured, M methods, L layers, K kept neurons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glass_export.evaluate.eager import DensePass, EagerModel
from glass_export.evaluate.methods import Chooser, Method, overlap, sparse_spans
from glass_export.evaluate.texts import EvalText
from glass_export.evaluate.trace import Trace
from glass_export.log import progress
from glass_export.runtime.base import IndexArray, LocalStatistics
from glass_export.selection import LocalTokens

BATCH = 16
"""Most choices of neurons that run together."""


def run_text(
    model: EagerModel, text: EvalText, index: int, methods: Sequence[Method], chooser: Chooser
) -> list[Trace]:
    """Measure all methods on one text; ``index`` is its number."""
    dense = model.dense(text)
    kl = np.zeros((len(methods), len(dense.steps)))
    nll = np.tile(dense.nll, (len(methods), 1))
    common: dict[int, NDArray[np.float64]] = {}
    seen = _Seen(dense)
    for (start, stop), members in _spans(methods, text.steps).items():
        seen.extend(start)
        chosen = [
            chooser.neurons(methods[m], seen.known(methods[m]), seen.whole, index) for m in members
        ]
        for m, neurons in zip(members, chosen, strict=True):
            if m not in common:
                common[m] = overlap(neurons, seen.whole().sq_sum)
        measured = ((dense.steps >= start) & (dense.steps < stop)).numpy()
        for first in range(0, len(members), BATCH):
            part = slice(first, first + BATCH)
            masks = torch.stack([as_mask(n, dense.magnitudes.shape[2]) for n in chosen[part]])
            found = model.sparse(dense, masks, start, stop)
            for row, m in enumerate(members[part]):
                kl[m, measured], nll[m, measured] = found.kl[row], found.nll[row]
    dense_layers = np.ones(dense.magnitudes.shape[0])
    return [
        Trace(dense.steps.numpy(), kl[m], nll[m], common.get(m, dense_layers))
        for m in range(len(methods))
    ]


class _Seen:
    """Statistics of what a driver has seen densely up to a decode step, and of the whole text."""

    def __init__(self, dense: DensePass) -> None:
        self._dense, self._steps = dense, 0
        self._answer = dense.answer(0, 0)
        self._prompts: dict[tuple[LocalTokens, int | None], LocalStatistics] = {}
        self._whole: LocalStatistics | None = None

    def extend(self, steps: int) -> None:
        """Go on to the choice at decode step ``steps``, which is not before the last one."""
        self._answer.add(self._dense.answer(self._steps, steps))
        self._steps = steps

    def known(self, method: Method) -> LocalStatistics:
        """The prompt's tokens that a method scores, and the answer's so far."""
        scope = (method.selection.local_tokens, method.prompt_tokens)
        if scope not in self._prompts:
            self._prompts[scope] = self._dense.prompt(*scope)
        return _sum(self._prompts[scope], self._answer)

    def whole(self) -> LocalStatistics:
        """The user's words and all of the answer, for the oracle."""
        if self._whole is None:
            answer = self._dense.answer(0, self._dense.text.steps)
            self._whole = _sum(self._dense.prompt(), answer)
        return self._whole


def _sum(first: LocalStatistics, second: LocalStatistics) -> LocalStatistics:
    total = LocalStatistics.zeros(*first.sq_sum.shape)
    total.add(first)
    total.add(second)
    return total


def run_texts(
    model: EagerModel, texts: Sequence[EvalText], methods: Sequence[Method], chooser: Chooser
) -> list[list[Trace]]:
    """Measure all methods on all texts: one list of T traces for each method."""
    rows = []
    with progress("comparing methods", len(texts), "texts") as task:
        for index, text in enumerate(texts):
            rows.append(run_text(model, text, index, methods, chooser))
            task.advance()
    return [list(column) for column in zip(*rows, strict=True)]


def _spans(methods: Sequence[Method], steps: int) -> dict[tuple[int, int], list[int]]:
    """Every sparse span of decode steps, in their order, and which methods have it."""
    spans: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, method in enumerate(methods):
        for span in sparse_spans(method.selection, steps):
            spans[span].append(index)
    return dict(sorted(spans.items()))


def as_mask(neurons: IndexArray, d_ff: int) -> Tensor:
    """Neurons [L,K] as bool [L,F]; padding, -1, falls into a column that is dropped."""
    mask = torch.zeros(neurons.shape[0], d_ff + 1, dtype=torch.bool)
    mask[torch.arange(neurons.shape[0])[:, None], torch.from_numpy(neurons).long()] = True
    return mask[:, :-1]
