"""What the engine's key/value cache holds, and which local statistics belong to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from glass_export.runtime.base import FloatArray, LocalStatistics, TokenArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Statistics of the tokens that one prefill call put at positions start..stop-1."""

    start: int
    stop: int
    statistics: LocalStatistics


class TokenCache:
    """The tokens at positions 0..n-1, their score weights, and the statistics of each chunk.

    Invariant: the chunks' statistics are those of exactly the tokens whose weight is not 0. Tokens
    of an answer carry none, so their weight is 0: what a refresh adds up over them ends with the
    answer and is kept apart, see :class:`.refresh.Refresh`.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._weights: list[float] = []
        self._chunks: list[Chunk] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def rewind(self, tokens: TokenArray, weights: FloatArray) -> int:
        """Drop what a new prompt cannot reuse; returns the length of what stays.

        What stays is the longest common beginning, tokens and weights, short of the prompt's last
        token (whose logits are needed). A chunk that it would cut in two is dropped from its start,
        since its sums cannot be cut, unless none of the part that stays was scored.
        """
        pairs = zip(self.tokens, self._weights, tokens[:-1], weights[:-1], strict=False)
        length = sum(1 for _ in takewhile(lambda p: p[0] == p[2] and p[1] == p[3], pairs))
        for chunk in self._chunks:
            if chunk.start < length < chunk.stop and any(self._weights[chunk.start : length]):
                length = chunk.start
        self.truncate(length)
        return length

    def truncate(self, length: int) -> None:
        """Forget positions from ``length`` on, with the statistics of chunks that reach past it."""
        del self.tokens[length:], self._weights[length:]
        self._chunks = [chunk for chunk in self._chunks if chunk.stop <= length]

    def prefilled(
        self, tokens: TokenArray, weights: FloatArray, statistics: LocalStatistics
    ) -> None:
        """Note that a prefill call has appended ``tokens``."""
        start = len(self)
        self.tokens += tokens.tolist()
        self._weights += weights.tolist()
        if weights.any():
            self._chunks.append(Chunk(start, len(self), statistics))

    def answered(self, tokens: Iterable[int]) -> None:
        """Note that ``tokens`` of an answer have been appended, by a decode call or a refresh."""
        self.tokens += tokens
        self._weights += [0.0] * (len(self.tokens) - len(self._weights))

    def statistics(self, layers: int, d_ff: int) -> LocalStatistics:
        """Sum of the statistics of all scored tokens in the cache."""
        total = LocalStatistics.zeros(layers, d_ff)
        for chunk in self._chunks:
            total.add(chunk.statistics)
        return total
