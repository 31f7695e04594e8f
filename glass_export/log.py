"""Logging and progress. The library is silent until an application calls :func:`configure`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("glass_export")
logger.addHandler(logging.NullHandler())


class Task(Protocol):
    """A running progress bar."""

    def advance(self, amount: float = 1.0) -> None:
        """Move the bar forward by ``amount`` of its unit."""
        ...


class ProgressSink(Protocol):
    """Where progress is shown; the command line installs one that draws bars on stderr."""

    def start(self, description: str, total: float | None, unit: str) -> Task:
        """Open a bar of ``total`` units (None: length unknown)."""
        ...

    def stop(self, task: Task) -> None:
        """Close a bar opened by :meth:`start`."""
        ...


class _Silent:
    def start(self, description: str, total: float | None, unit: str) -> Task:
        return self

    def stop(self, task: Task) -> None:
        pass

    def advance(self, amount: float = 1.0) -> None:
        pass


_sink: ProgressSink = _Silent()


def configure(*, sink: ProgressSink | None = None) -> None:
    """Install the progress sink; None makes the library silent again."""
    global _sink
    _sink = sink or _Silent()


@contextmanager
def progress(description: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
    """Show a progress bar while the block runs.

    Args:
        description: What is being done, as a short verb phrase.
        total: Number of units, or None when it is not known beforehand.
        unit: Name of the unit; ``"bytes"`` is shown as a transfer with its speed.
    """
    sink = _sink
    task = sink.start(description, total, unit)
    try:
        yield task
    finally:
        sink.stop(task)


@contextmanager
def third_party_silence() -> Iterator[None]:
    """Hold back what libraries log and warn about inside the block; errors still pass.

    Handlers that they give to the root logger are taken away again.
    """
    previous, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        logging.root.handlers[:] = handlers
