"""The terminal: progress, logs and errors on stderr. The rest of the package does not print."""

from __future__ import annotations

import logging
import os
import warnings

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from glass_export import log

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False, soft_wrap=True)

_WORTH_A_LINE = 0.5  # seconds; shorter steps leave no trace


class _AmountColumn(ProgressColumn):
    """Bytes with their speed, anything else as "done/total unit"."""

    def __init__(self) -> None:
        super().__init__()
        self._size, self._speed = DownloadColumn(), TransferSpeedColumn()

    def render(self, task: RichTask) -> Text:
        unit = task.fields["unit"]
        if unit == "bytes":
            return Text(" ").join([self._size.render(task), self._speed.render(task)])
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} {unit}", style="progress.download")


class _Bar:
    """One running bar of a :class:`ProgressBars`."""

    def __init__(self, progress: Progress, description: str, total: float | None, unit: str):
        self._progress = progress
        self._id = progress.add_task(escape(description), total=total, unit=unit)

    def advance(self, amount: float = 1.0) -> None:
        self._progress.advance(self._id, amount)

    def close(self) -> str | None:
        """Remove the bar. Returns the line to leave behind, if the step was worth one."""
        task = next(t for t in self._progress.tasks if t.id == self._id)
        self._progress.remove_task(self._id)
        elapsed = task.elapsed or 0.0
        return f"{task.description} [dim]{elapsed:.1f} s" if elapsed >= _WORTH_A_LINE else None


class ProgressBars:
    """Progress sink that draws bars with ETA on stderr, and keeps one line for each long step."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            _AmountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        self._open = 0

    def start(self, description: str, total: float | None, unit: str) -> _Bar:
        """Open a bar."""
        self._open += 1
        self._progress.start()
        return _Bar(self._progress, description, total, unit)

    def stop(self, task: log.Task) -> None:
        """Close a bar; the last one gives the terminal back."""
        line = task.close() if isinstance(task, _Bar) else None
        self._open -= 1
        if self._open == 0:
            self._progress.stop()
        if line:
            stderr.print(line)


def setup(*, quiet: bool, verbose: bool) -> None:
    """Install progress bars and log output.

    Args:
        quiet: Errors only.
        verbose: Everything, with warnings and messages of the libraries in use.
    """
    log.configure(sink=None if quiet else ProgressBars())
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    log.logger.setLevel(level)
    handler = RichHandler(console=stderr, show_time=verbose, show_path=verbose)
    log.logger.handlers = [handler]
    if not verbose:
        _hush_libraries()


def verbose() -> bool:
    """Whether the user asked for everything."""
    return log.logger.level == logging.DEBUG


def _hush_libraries() -> None:
    """Their progress bars would fight ours; their warnings are for developers."""
    warnings.simplefilter("ignore")
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def error(message: str) -> None:
    """Print one error."""
    stderr.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
