"""What a generation cost: times, speeds and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStats:
    """Figures of one :meth:`Session.generate`. Times in milliseconds, speeds in tokens a second.

    ``ttft_ms`` runs from the request to the first token. ``prefill_tps`` counts the tokens that
    were computed, not the ``reused_tokens`` of the cache; ``decode_tps`` counts from the second
    token on, 0 when there was none. ``fusion_ms`` is scores, fusion and top-K; ``select_ms`` is
    that plus handing the neurons to the engine, packing included; both are of the choice before
    the first token. ``refreshes`` counts the choices after it, the one that ends a dense start
    included, and ``refresh_ms`` is their time: dense batches, choices and handing over, a part of
    what ``decode_tps`` counts. ``kept_neurons`` is K of the density: what a layer keeps, and where
    some layers are dense the mean over all, rounded up. ``peak_rss_mb`` is the process's peak
    resident memory in MB (10^6 bytes), None where the system does not tell.
    """

    prompt_tokens: int
    reused_tokens: int
    new_tokens: int
    ttft_ms: float
    prefill_tps: float
    decode_tps: float
    fusion_ms: float
    select_ms: float
    refreshes: int
    refresh_ms: float
    density: float
    kept_neurons: int
    peak_rss_mb: float | None


class Stopwatch:
    """Times of one request: named phases, and the moments at which tokens were chosen."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._first = self._last = self._start
        self._tokens = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to the phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + elapsed
            self._counts[name] = self.count(name) + 1

    def token(self) -> None:
        """Note that a token has just been chosen."""
        self._last = time.perf_counter()
        if self._tokens == 0:
            self._first = self._last
        self._tokens += 1

    def ms(self, name: str) -> float:
        """Milliseconds spent in a phase so far."""
        return self._seconds.get(name, 0.0) * 1e3

    def count(self, name: str) -> int:
        """Blocks that were timed as a phase so far."""
        return self._counts.get(name, 0)

    @property
    def ttft_ms(self) -> float:
        """Milliseconds from the start to the first token."""
        return (self._first - self._start) * 1e3

    @property
    def decode_tps(self) -> float:
        """Tokens a second from the second token on; 0 when there was no second token."""
        elapsed = self._last - self._first
        return (self._tokens - 1) / elapsed if elapsed > 0 else 0.0


def rate(count: int, milliseconds: float) -> float:
    """``count`` things in so many milliseconds, as things a second; 0 when no time passed."""
    return count / milliseconds * 1e3 if milliseconds > 0 else 0.0


def peak_rss_mb() -> float | None:
    """Peak resident memory of this process in MB (10^6 bytes); None where it is not known."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held before exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
