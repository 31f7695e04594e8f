"""The engine-independent core: prefill with prefix reuse, choice of neurons, decode.

Imports neither torch, transformers nor onnx. Legend: L layers, F FFN width, K kept neurons,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from glass_export.errors import GenerationError
from glass_export.fusion import Priors, select_neurons
from glass_export.runtime.base import (
    Backend,
    FloatArray,
    IndexArray,
    LocalStatistics,
    PrefillResult,
    TokenArray,
)
from glass_export.runtime.cache import TokenCache
from glass_export.runtime.refresh import Refresh
from glass_export.runtime.request import (
    SelectionArgs,
    checked_neurons,
    checked_prompt,
    checked_selection,
)
from glass_export.runtime.sampler import require_finite
from glass_export.runtime.stats import Stopwatch
from glass_export.selection import SelectionRecipe
from glass_export.spec import Statistic, layer_budgets


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """Outcome of a prefill: logits [V] of the last token, and the whole prompt's statistics."""

    logits: FloatArray
    statistics: LocalStatistics
    reused_tokens: int


class Driver:
    """One conversation at a time over one engine. Not for use by several threads at once.

    The key/value cache is kept between calls: a prompt that begins like what the cache holds is
    computed only from where it differs. Tokens of an earlier answer keep the keys and values that
    the chosen neurons, or a refresh, gave them. The local statistics are those of exactly the
    prompt's tokens whose mask is not 0, reused or not; an earlier answer carries none, so where its
    mask is not 0 it is run again, densely. A refresh adds the tokens of the present answer, see
    :mod:`.refresh`.

    A failed call leaves the cache at what it holds for certain, which after a refresh that failed
    is short of the tokens it was to compute again; after NaN it is forgotten. After either nothing
    is refreshed until the next choice.
    """

    def __init__(
        self, backend: Backend, priors: Mapping[Statistic, FloatArray], defaults: SelectionRecipe
    ) -> None:
        """Drive ``backend`` with the model's priors and the artifact's default selection."""
        self.backend = backend
        self.defaults = defaults
        self._priors = Priors(priors, routed=backend.dims.expert_rows > 0)
        self.reset()
        self.set_neurons(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the engine's memory."""
        self.backend.close()

    def reset(self) -> None:
        """Forget the conversation; the neurons stay, without refreshes."""
        self._cache = TokenCache()
        self._refresh: Refresh | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the key/value cache holds."""
        return tuple(self._cache.tokens)

    def prefill(self, token_ids: ArrayLike, mask: ArrayLike | None = None) -> PrefillOutput:
        """Run a prompt densely, from where it differs from what the cache holds.

        It ends the refreshes of the answer before it; the neurons stay until they are chosen again.

        Args:
            token_ids: The whole conversation's tokens, from its start.
            mask: Score weight of every token; None scores all.

        Raises:
            GenerationError: the prompt is empty, too long or malformed, or the model gave NaN.
        """
        dims = self.backend.dims
        tokens, weights = checked_prompt(token_ids, mask, dims, self.backend.max_length)
        self._refresh = None
        reused = self._cache.rewind(tokens, weights)
        for part, result in self._chunks(tokens, weights, reused):
            self._cache.prefilled(tokens[part], weights[part], result.statistics)
        statistics = self._cache.statistics(dims.rows, dims.d_ff)
        return PrefillOutput(self._finite(result.logits[-1]), statistics, reused)

    def _chunks(
        self, tokens: TokenArray, weights: FloatArray, start: int = 0
    ) -> Iterator[tuple[slice, PrefillResult]]:
        """Run tokens from index ``start`` on after what the cache holds, a prefill call at a time.

        The caller notes each part in the cache before the next. The last one has the logits of the
        last token, the others none.
        """
        step = self.backend.prefill_chunk
        for begin in range(start, tokens.size, step):
            part = slice(begin, min(begin + step, tokens.size))
            size = part.stop - begin
            rows = np.arange(size - 1 if part.stop == tokens.size else size, size)
            yield part, self.backend.prefill(tokens[part], len(self._cache), weights[part], rows)

    def rewind(self, length: int) -> None:
        """Forget all tokens but the first ``length``, such as an answer to try another one.

        The neurons stay, without refreshes. Local statistics stay, too, if ``length`` is that of
        the prompt or more; those of a prefill call that it cuts are dropped.

        Raises:
            GenerationError: there are not so many tokens.
        """
        if not 0 <= length <= len(self._cache):
            raise GenerationError(f"rewind: got {length}, expected 0 to {len(self._cache)} tokens")
        self._refresh = None
        self._cache.truncate(length)

    def select(
        self, watch: Stopwatch | None = None, **selection: Unpack[SelectionArgs]
    ) -> IndexArray:
        """Choose the neurons of the following decodes from the prompt's statistics and the prior.

        Args:
            watch: Gets the phase ``select``, of which ``fusion`` is a part, and ``refresh`` from
                the following decodes, as in GenerationStats.
            **selection: As in :meth:`.session.Session.generate`. Density 1.0 is the dense model.

        Returns:
            The neurons of the next decode, int32 [L,K]: all of them at a dense start. K is that of
            the layer that keeps most; the rows of others end in -1.

        Raises:
            GenerationError: an argument is not usable, or no token of the prompt was scored.
        """
        chosen = checked_selection(self.defaults, self.backend.dims, **selection)
        return self._select(chosen, watch or Stopwatch())

    def _select(self, selection: SelectionRecipe, watch: Stopwatch) -> IndexArray:
        dims = self.backend.dims
        every = np.tile(np.arange(dims.d_ff, dtype=np.int32), (dims.rows, 1))
        self._refresh = None
        with watch.phase("select"):
            if min(self._budgets(selection)) == dims.d_ff:
                self.backend.select(None)
                return every
            with watch.phase("fusion"):
                statistics = self._cache.statistics(dims.rows, dims.d_ff)
                # At a dense start too, so that what cannot be chosen fails before the answer.
                neurons = self._choose(statistics, selection)
            self.backend.select(None if selection.dense_start else neurons)
        if selection.refresh or selection.dense_start:
            self._refresh = Refresh(selection, statistics, neurons, len(self._cache), watch)
        return every if selection.dense_start else neurons

    def _budgets(self, selection: SelectionRecipe) -> tuple[int, ...]:
        dims = self.backend.dims
        return layer_budgets(selection.density, dims.d_ff, dims.rows, selection.dense_layers)

    def _choose(self, statistics: LocalStatistics, selection: SelectionRecipe) -> IndexArray:
        return select_neurons(statistics, self._priors, selection, self._budgets(selection))

    def set_neurons(self, indices: ArrayLike | None) -> None:
        """Decode with these neurons [L,K] from now on, without refreshes; None is the dense model.

        Raises:
            GenerationError: not whole numbers of shape [L,K] in 0..F-1, each row ascending without
                repetition.
        """
        chosen = None if indices is None else checked_neurons(indices, self.backend.dims)
        self._refresh = None
        self.backend.select(chosen)

    def decode(self, token: int) -> FloatArray:
        """Append one token, computed with the chosen neurons, or with all by a refresh that is due.

        Returns:
            Logits [V] of the token after it, valid until the next call.

        Raises:
            GenerationError: the context is full, the token is not in the vocabulary, or the model
                gave NaN.
        """
        limit, vocabulary = self.backend.max_length, self.backend.dims.vocab_size
        if len(self._cache) >= limit:
            raise GenerationError(
                f"decode: the context of {limit} tokens is full; shorten the conversation, or "
                "export the model again with a larger export.max_length"
            )
        if not 0 <= token < vocabulary:
            raise GenerationError(f"decode: got token {token}, expected 0 to {vocabulary - 1}")
        if self._refresh is not None and self._refresh.due(len(self._cache)):
            return self._decode_by_refresh(token, self._refresh)
        logits = self.backend.decode(token, len(self._cache))
        self._cache.answered([token])
        return self._finite(logits)

    def _decode_by_refresh(self, token: int, refresh: Refresh) -> FloatArray:
        """Run the tokens since the last choice and ``token`` densely, then choose again."""
        self._refresh = None  # until it has succeeded
        with refresh.watch.phase("refresh"):
            tokens = np.array([*self._cache.tokens[refresh.start :], token], np.int64)
            self._cache.truncate(refresh.start)
            for part, result in self._chunks(tokens, np.ones(tokens.size, np.float32)):
                self._cache.answered(tokens[part].tolist())
                refresh.statistics.add(result.statistics)
            logits = self._finite(result.logits[-1])
            neurons = self._choose(refresh.statistics, refresh.selection)
            self.backend.select(neurons)
        refresh.chosen(neurons, len(self._cache))
        self._refresh = refresh
        return logits

    def _finite(self, logits: FloatArray) -> FloatArray:
        try:
            require_finite(logits)
        except GenerationError:
            self.reset()
            raise
        return logits
