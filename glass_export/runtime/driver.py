"""The engine-independent core: prefill with prefix reuse, choice of neurons, decode.

Imports neither torch, transformers nor onnx. Legend: L layers, F FFN width, K kept neurons,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from glass_export.errors import GenerationError
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import Backend, FloatArray, IndexArray, LocalStatistics, TokenArray
from glass_export.runtime.cache import TokenCache
from glass_export.runtime.request import (
    SelectionArgs,
    checked_neurons,
    checked_prompt,
    checked_selection,
)
from glass_export.runtime.sampler import require_finite
from glass_export.runtime.stats import Stopwatch
from glass_export.scoring import Priors, select_neurons
from glass_export.spec import Statistic, kept_neurons


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
    the chosen neurons gave them. The local statistics are those of exactly the prompt's tokens
    whose mask is not 0, reused or not; an earlier answer carries none, so where its mask is not 0
    it is run again, densely.

    A failed call leaves the cache at what it holds for certain; after NaN it is forgotten.
    """

    def __init__(
        self, backend: Backend, priors: Mapping[Statistic, FloatArray], defaults: SelectionRecipe
    ) -> None:
        """Drive ``backend`` with the model's priors and the artifact's default selection."""
        self.backend = backend
        self.defaults = defaults
        self._priors = Priors(priors)
        self._cache = TokenCache()
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
        """Forget the conversation."""
        self._cache = TokenCache()

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the key/value cache holds."""
        return tuple(self._cache.tokens)

    def prefill(self, token_ids: ArrayLike, mask: ArrayLike | None = None) -> PrefillOutput:
        """Run a prompt densely, from where it differs from what the cache holds.

        Args:
            token_ids: The whole conversation's tokens, from its start.
            mask: Score weight of every token; None scores all.

        Raises:
            GenerationError: the prompt is empty, too long or malformed, or the model gave NaN.
        """
        dims, step = self.backend.dims, self.backend.prefill_chunk
        tokens, weights = checked_prompt(token_ids, mask, dims, self.backend.max_length)
        reused = self._cache.rewind(tokens, weights)
        for start in range(reused, tokens.size, step):
            part = slice(start, start + step)
            logits = self._chunk(tokens[part], weights[part], start + step >= tokens.size)
        statistics = self._cache.statistics(dims.layers, dims.d_ff)
        return PrefillOutput(self._finite(logits[-1]), statistics, reused)

    def _chunk(self, tokens: TokenArray, weights: FloatArray, last: bool) -> FloatArray:
        rows = np.arange(tokens.size - 1 if last else tokens.size, tokens.size)
        result = self.backend.prefill(tokens, len(self._cache), weights, rows)
        self._cache.prefilled(tokens, weights, result.statistics)
        return result.logits

    def select(
        self, watch: Stopwatch | None = None, **selection: Unpack[SelectionArgs]
    ) -> IndexArray:
        """Choose the neurons of the following decodes from the prompt's statistics and the prior.

        Args:
            watch: Gets the phase ``select``, of which ``fusion`` is a part, as in GenerationStats.
            **selection: As in :meth:`.session.Session.generate`. Density 1.0 is the dense model.

        Returns:
            The neurons, int32 [L,K].

        Raises:
            GenerationError: an argument is not usable, or no token of the prompt was scored.
        """
        return self._select(checked_selection(self.defaults, **selection), watch or Stopwatch())

    def _select(self, selection: SelectionRecipe, watch: Stopwatch) -> IndexArray:
        dims = self.backend.dims
        kept = kept_neurons(selection.density, dims.d_ff)
        with watch.phase("select"):
            if kept == dims.d_ff:
                self.backend.select(None)
                return np.tile(np.arange(kept, dtype=np.int32), (dims.layers, 1))
            with watch.phase("fusion"):
                statistics = self._cache.statistics(dims.layers, dims.d_ff)
                neurons = select_neurons(statistics, self._priors, selection, kept)
            self.backend.select(neurons)
        return neurons

    def set_neurons(self, indices: ArrayLike | None) -> None:
        """Decode with these neurons [L,K] from now on; None is the dense model.

        Raises:
            GenerationError: not whole numbers of shape [L,K] in 0..F-1, each row ascending without
                repetition.
        """
        chosen = None if indices is None else checked_neurons(indices, self.backend.dims)
        self.backend.select(chosen)

    def decode(self, token: int) -> FloatArray:
        """Append one token, computed with the chosen neurons.

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
        logits = self.backend.decode(token, len(self._cache))
        self._cache.decoded(token)
        return self._finite(logits)

    def _finite(self, logits: FloatArray) -> FloatArray:
        try:
            require_finite(logits)
        except GenerationError:
            self.reset()
            raise
        return logits
