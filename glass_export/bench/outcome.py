"""What a benchmark has measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from glass_export.bench.contestants import Contestant
from glass_export.errors import WorkerError
from glass_export.log import logger

Figures = dict[str, float | None]
"""By name; None where a runtime or the system does not tell."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a contestant's name, and how it runs."""

    name: str
    density: float | None
    threads: int
    context: int


@dataclass(slots=True)
class Outcome:
    """Figures of all cases.

    Attributes:
        samples: A turn each: ``ttft_ms``, ``prefill_tps``, ``decode_tps``, and an artifact's
            ``fusion_ms`` and ``select_ms``.
        quality: ``kl`` in nats, ``ppl`` and ``scored_tokens``, by name and density; of workers
            alone, as memory.
        memory: ``base_rss_mb``, ``load_rss_mb``, ``peak_rss_mb`` and ``anon_mb`` of a fresh
            process.
        engines: Runtime with its version, by name.
        failures: What ended a contestant's part, by name; the others go on.
    """

    samples: dict[Case, list[Figures]] = field(default_factory=dict)
    quality: dict[tuple[str, float | None], Figures] = field(default_factory=dict)
    memory: dict[Case, Figures] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def blaming(self, contestant: Contestant) -> Iterator[None]:
        """Note a worker's error inside the block as the contestant's, which has then failed."""
        try:
            yield
        except WorkerError as problem:
            logger.warning("%s: %s", contestant.name, problem)
            self.failures[contestant.name] = str(problem)
