"""Log-likelihoods and answers of a model itself.

Legend: R rows that run together, P tokens of the context, L layers, F FFN width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from glass_export.evaluate.eager import EagerModel, Recording, filled_cache, local_statistics
from glass_export.evaluate.methods import Chooser, Method
from glass_export.evaluate.protocol import as_mask
from glass_export.evaluate.scorer import (
    Likelihood,
    Tokens,
    greedy_text,
    text_number,
    unknown_answer,
)
from glass_export.evaluate.texts import EvalText
from glass_export.runtime.base import FloatArray
from glass_export.runtime.text import TextCodec

ROWS = 16
"""Most continuations that run together, those of other methods included."""


class EagerScorer:
    """A :class:`.scorer.Scorer` of an eager model.

    Args:
        model: The model.
        methods: Ways to choose neurons, without refresh and dense start.
        chooser: Chooses them.
        codec: The model's tokenizer.
        ends: Tokens that end a text.
    """

    def __init__(
        self,
        model: EagerModel,
        methods: tuple[Method, ...],
        chooser: Chooser,
        codec: TextCodec,
        ends: Iterable[int],
    ) -> None:
        self.methods = methods
        config = model.model.config.get_text_config()
        self.max_length: int = config.max_position_embeddings
        self._model, self._chooser, self._codec = model, chooser, codec
        self._ends = frozenset(ends)

    @torch.no_grad()
    def likelihoods(
        self, context: EvalText, continuations: Sequence[Tokens]
    ) -> list[list[Likelihood]]:
        """See :class:`.scorer.Scorer`."""
        dense = self._model.record(context.prompt)
        masks = [self._mask(method, dense, context) for method in self.methods]
        first = self._model.logits(dense.hidden[-1:]).log_softmax(-1)
        rows = [(mask, continuation) for continuation in continuations for mask in masks]
        found: list[Likelihood] = []
        for start in range(0, len(rows), ROWS):
            found += self._batch(dense, first, rows[start : start + ROWS])
        return [found[start : start + len(masks)] for start in range(0, len(found), len(masks))]

    @torch.no_grad()
    def answer(self, context: EvalText, method: int, limit: int, stop: Sequence[str]) -> str:
        """See :class:`.scorer.Scorer`."""
        dense = self._model.record(context.prompt)
        mask = self._mask(self.methods[method], dense, context)[None]
        cache = filled_cache(dense.keys_values, 1, len(context.prompt))

        def decode(token: int) -> FloatArray:
            hidden = self._model.extend(torch.tensor([[token]]), mask, cache)
            return _array(self._model.logits(hidden[0])[0])

        logits = _array(self._model.logits(dense.hidden[-1:])[0])
        return greedy_text(self._codec, logits, decode, ends=self._ends, limit=limit, stop=stop)

    def _batch(
        self, dense: Recording, first: Tensor, rows: Sequence[tuple[Tensor, Tokens]]
    ) -> list[Likelihood]:
        """Of pairs of neurons, bool [L,F], and a continuation; ``first``: [1,V] after the context.

        Shorter rows are padded at their ends, which what comes before cannot see.
        """
        tokens = torch.zeros((len(rows), max(len(row) for _, row in rows) - 1), dtype=torch.long)
        for line, (_, row) in zip(tokens, rows, strict=True):
            line[: len(row) - 1] = torch.tensor(row[:-1])
        hidden = None
        if tokens.shape[1]:
            cache = filled_cache(dense.keys_values, len(rows), len(dense.hidden))
            hidden = self._model.extend(tokens, torch.stack([mask for mask, _ in rows]), cache)
        return [
            _likelihood(first if hidden is None else self._after(first, hidden[index], row), row)
            for index, (_, row) in enumerate(rows)
        ]

    def _after(self, first: Tensor, hidden: Tensor, row: Tokens) -> Tensor:
        """Log-probabilities at every token of a continuation, [1,V] and [T,D] -> [len(row),V]."""
        decoded = self._model.logits(hidden[: len(row) - 1]).log_softmax(-1)
        return torch.cat([first, decoded])

    def _mask(self, method: Method, dense: Recording, context: EvalText) -> Tensor:
        """The neurons that a method chooses after the context, bool [L,F]."""
        layers, _, d_ff = dense.magnitudes.shape
        if method.selection.density == 1.0:
            return torch.ones((layers, d_ff), dtype=torch.bool)
        weights = context.scored(method.selection.local_tokens, method.prompt_tokens)
        known = local_statistics(dense.magnitudes, torch.tensor(weights))
        number = text_number(context)
        return as_mask(self._chooser.neurons(method, known, unknown_answer, number), d_ff)


def _likelihood(log_p: Tensor, row: Tokens) -> Likelihood:
    """From the log-probabilities [len(row),V] at every token."""
    return Likelihood.of(zip(map(_array, log_p), row, strict=True))


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.float().numpy()
    return array
