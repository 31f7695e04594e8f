"""Work that NumPy does without Python's lock, spread over threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_POOLS: dict[int, ThreadPoolExecutor] = {}


def for_each(work: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """Call ``work`` for every item, by as many threads; of errors the first item's is raised.

    Threads are kept for the next time: to start them costs more than most of the work.
    """
    if threads < 2:
        for item in items:
            work(item)
        return
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="glass-export")
    for _ in _POOLS[threads].map(work, items):
        pass
