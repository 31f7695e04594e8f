"""Mask refresh: when neurons are chosen again while answering, and from which statistics.

Every so many decoded tokens the driver computes those tokens once more, densely and in one batch,
which repairs their keys and values, adds their statistics to the prompt's and chooses again. A
dense start is an answer's first interval, decoded with all neurons.

Legend: L layers, F FFN width, K kept neurons of the layer that keeps most. The rows of others end
in -1.
"""

from __future__ import annotations

from typing import Protocol

from glass_export.runtime.base import IndexArray, LocalStatistics
from glass_export.runtime.stats import Stopwatch
from glass_export.selection import SelectionRecipe


class Policy(Protocol):
    """Decides how long a choice of neurons is kept."""

    def interval(self, old: IndexArray, new: IndexArray) -> int:
        """Tokens to decode before the next refresh, 0 for none, after one that has chosen the
        neurons ``new`` in place of ``old``, both [L,K].
        """
        ...


class FixedInterval:
    """A refresh every so many tokens, whatever the choices are; see :class:`Policy`."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def interval(self, old: IndexArray, new: IndexArray) -> int:
        """See Policy.interval."""
        return self._tokens


class Refresh:
    """The refreshes of one answer.

    Attributes:
        selection: How neurons are chosen.
        statistics: Sums over the prompt's scored tokens and the answer's that were refreshed [L,F].
        neurons: The latest choice [L,K]; a dense start does not use the first one.
        start: Position of the first token that the next refresh computes again: what is before it
            is the prompt, or was refreshed.
        watch: Gets the phase ``refresh``.
    """

    def __init__(
        self,
        selection: SelectionRecipe,
        statistics: LocalStatistics,
        neurons: IndexArray,
        start: int,
        watch: Stopwatch,
    ) -> None:
        """Begin after the choice ``neurons`` that was made of the prompt's ``statistics``, which
        become this object's own.
        """
        self.selection, self.statistics, self.neurons = selection, statistics, neurons
        self.start, self.watch = start, watch
        self._policy: Policy = FixedInterval(selection.refresh)
        self._interval = selection.dense_start or selection.refresh

    def due(self, length: int) -> bool:
        """Whether the token at position ``length`` is to be computed by a refresh."""
        return 0 < self._interval <= length - self.start

    def chosen(self, neurons: IndexArray, start: int) -> None:
        """Note that a refresh of all tokens before position ``start`` chose ``neurons``."""
        self._interval = self._policy.interval(self.neurons, neurons)
        self.neurons, self.start = neurons, start
