"""Mask refresh: when neurons are chosen again while answering, and from which statistics.

Every so many decoded tokens the driver computes those tokens once more, densely and in one batch,
which repairs their keys and values, adds their statistics to the prompt's and chooses again. A
dense start is an answer's first interval, decoded with all neurons.

A refresh costs about what prefilling the tokens of its interval does, so refreshes cost the same
for each token whatever the interval is: time is saved by refreshing no more, not less often.

Legend: L layers, F FFN width, K kept neurons of the layer that keeps most. The rows of others end
in -1.
"""

from __future__ import annotations

from typing import Protocol

from glass_export.runtime.base import IndexArray, LocalStatistics
from glass_export.runtime.stats import Stopwatch
from glass_export.selection import SelectionRecipe
from glass_export.uncertainty import added

AUTO_INTERVAL = 32
"""Tokens between two refreshes of ``auto``."""

AUTO_TURNOVER = 500
"""New neurons of 10,000 chosen ones below which a choice has settled, for ``auto``.

With SmolLM2 at density 0.5 and answers of 256 tokens it keeps about 80% of what refreshes at every
interval gain in KL, with half of them. It decides no better than a fixed number of refreshes would,
but it makes fewer where a long prompt, or the prior, has settled the choice before.
"""


class Policy(Protocol):
    """Decides how long a choice of neurons is kept.

    Attributes:
        first: Tokens to decode with the first choice, 0 for all.
    """

    first: int

    def interval(self, old: IndexArray, new: IndexArray) -> int:
        """Tokens to decode before the next refresh, 0 for none, after one that has chosen the
        neurons ``new`` in place of ``old``, both [L,K]. The one that ends a dense start replaces
        none and is not asked about.
        """
        ...


class FixedInterval:
    """A refresh every so many tokens, whatever the choices are; see :class:`Policy`."""

    def __init__(self, tokens: int) -> None:
        self.first = tokens

    def interval(self, old: IndexArray, new: IndexArray) -> int:
        """See Policy.interval."""
        return self.first


class UntilSettled:
    """Refreshes at an interval until the choice has settled, then none; see :class:`Policy`.

    A choice has settled when few of its neurons are new. Counts are exact, so that every runtime
    stops at the same token.
    """

    def __init__(self, tokens: int = AUTO_INTERVAL, turnover: int = AUTO_TURNOVER) -> None:
        """Refresh every ``tokens`` tokens until less than ``turnover`` of 10,000 are new."""
        self.first, self._turnover = tokens, turnover

    def interval(self, old: IndexArray, new: IndexArray) -> int:
        """See Policy.interval."""
        count = int(added(old, new).sum())
        settled = count * 10_000 < self._turnover * int((new >= 0).sum())
        return 0 if settled else self.first


def policy(refresh: int | str) -> Policy:
    """The policy that a selection's ``refresh`` stands for."""
    return UntilSettled() if isinstance(refresh, str) else FixedInterval(refresh)


class Refresh:
    """The refreshes of one answer.

    Attributes:
        selection: How neurons are chosen.
        statistics: Sums over the prompt's scored tokens and the answer's that were refreshed [L,F].
        neurons: The latest choice that decoding uses [L,K]; None at a dense start.
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
        self.selection, self.statistics = selection, statistics
        self.neurons = None if selection.dense_start else neurons
        self.start, self.watch = start, watch
        self._policy = policy(selection.refresh)
        self._interval = selection.dense_start or self._policy.first

    def due(self, length: int) -> bool:
        """Whether the token at position ``length`` is to be computed by a refresh."""
        return 0 < self._interval <= length - self.start

    def chosen(self, neurons: IndexArray, start: int) -> None:
        """Note that a refresh of all tokens before position ``start`` chose ``neurons``."""
        old = self.neurons
        self._interval = self._policy.first if old is None else self._policy.interval(old, neurons)
        self.neurons, self.start = neurons, start
