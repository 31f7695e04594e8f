"""Sessions of the Python runtime under load: ``generations.py DIRECTORY --generations N``.

Each thread has a session of its own, and answers random requests: one token, a conversation, more
than the context holds, every extreme of sampling, settings that must be refused, answers broken off
at a random piece. Prints the memory that the process grew by, and ends with exit code 1 when a call
did what it must not, or memory grew with the number of generations.

``mobile_demo/core/tests/torture.cpp`` does the same through ``glass.h``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from glass_export.errors import GenerationError
from glass_export.runtime import SamplingParams, Session

MAX_GROWTH = 200.0
"""Bytes of resident memory a generation."""
SLACK = 4e6
"""Bytes: pages that allocators take or give back."""
SPOILED: tuple[dict[str, Any], ...] = (
    {"temperature": math.nan}, {"temperature": math.inf}, {"temperature": -1.0}, {"top_k": -1},
    {"top_p": math.nan}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": -0.1}, {"min_p": math.inf},
    {"repetition_penalty": 0.0}, {"repetition_penalty": math.nan}, {"seed": -1},
)  # fmt: skip


class BrokenOff(Exception):
    """What a listener raises to end an answer."""


class Load:
    """Random requests to sessions, and what became of them."""

    def __init__(self, directory: Path, generations: int) -> None:
        self.directory, self.generations = directory, generations
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.samples: list[tuple[int, int]] = []
        self._process, self._lock = psutil.Process(), threading.Lock()

    def work(self, seed: int) -> None:
        """Answer until there are enough answers of all threads; now and then by a new session."""
        chooser = random.Random(seed)
        session = Session.open(self.directory, threads=1)
        try:
            while self.outcomes.total() < self.generations:
                if chooser.random() < 0.005:
                    session.close()
                    session = Session.open(self.directory, threads=1)
                self._note(self._generate(session, chooser))
        except Exception as problem:  # of a thread nobody would hear
            self.wrong.append(f"{type(problem).__name__}: {problem}")
        finally:
            session.close()

    def growth(self) -> float:
        """Bytes a generation, of a line through the second half of the samples."""
        half = np.array(sorted(self.samples)[len(self.samples) // 2 :], dtype=np.float64)
        return float(np.polyfit(half[:, 0], half[:, 1], 1)[0]) if len(half) > 1 else 0.0

    def _note(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            count = self.outcomes.total()
            if count % 50 == 0:
                self.samples.append((count, self._process.memory_info().rss))

    def _generate(self, session: Session, chooser: random.Random) -> str:
        if chooser.random() < 0.1:
            return self._refused(SPOILED[chooser.randrange(len(SPOILED))])
        kind = chooser.random()
        text = "a " * 5000 if kind < 0.1 else "a" if kind < 0.3 else "the quick brown fox"
        pieces = chooser.randrange(8) if chooser.random() < 0.25 else None

        def listen(_: str) -> None:
            nonlocal pieces
            if pieces is not None:
                pieces -= 1
                if pieces < 0:
                    raise BrokenOff

        chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        try:
            session.generate(
                text if chooser.random() < 0.5 else chat,
                max_new_tokens=chooser.choice((1, 2, 7, 1_000_000)),
                sampling=_extremes(chooser),
                stream=listen,
                reset=chooser.choice((None, True)),
                density=chooser.choice((None, 0.25, 1.0)),
            )
        except BrokenOff:
            return "broken off"
        except GenerationError as problem:
            if kind < 0.1:
                return "too long"
            self.wrong.append(f"{text[:30]!r}: {problem}")
        else:
            if kind < 0.1:
                self.wrong.append("a prompt longer than the context was answered")
        return "answered"

    def _refused(self, spoiled: dict[str, Any]) -> str:
        try:
            SamplingParams(**spoiled)
        except GenerationError as problem:
            if next(iter(spoiled)) not in str(problem):
                self.wrong.append(f"{spoiled}: {problem}")
        else:
            self.wrong.append(f"{spoiled}: not refused")
        return "refused"


def _extremes(chooser: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=chooser.choice((0.0, 1e-9, 1.0, 1e9)),
        top_k=chooser.choice((0, 1, 40, 2**62)),
        top_p=chooser.choice((1e-300, 0.5, 1.0)),
        min_p=chooser.choice((0.0, 0.1, 1.0)),
        repetition_penalty=chooser.choice((1e-3, 1.0, 1.3, 1e6)),
        seed=chooser.randrange(2**63),
    )


def main() -> int:
    """Run from the command line; prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    load = Load(given.directory, given.generations)
    workers = [
        threading.Thread(target=load.work, args=(given.seed * 1000 + index,))
        for index in range(given.threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    growth = load.growth()
    figures = {
        "generations": load.outcomes.total(),
        "threads": given.threads,
        **dict(sorted(load.outcomes.items())),
        "rss_mb": round(max((rss for _, rss in load.samples), default=0) / 1e6, 1),
        "growth_bytes_a_generation": round(growth, 1),
        "wrong": load.wrong[:20],
    }
    print(json.dumps(figures))
    return int(bool(load.wrong) or growth > MAX_GROWTH + SLACK / max(given.generations, 1))


if __name__ == "__main__":
    sys.exit(main())
