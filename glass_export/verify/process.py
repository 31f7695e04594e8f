"""Verification in a process of its own, for an export whose peak memory matters.

Next to what an export has imported and not given back, an artifact on its runtime, all its pages
and packed copies, would be the largest that the export ever holds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from glass_export import errors
from glass_export.errors import ResourceError, VerificationError
from glass_export.log import logger, progress

_MODULE = "glass_export.verify.serve"


def verify_in_process(path: Path) -> dict[str, Any]:
    """Like verify_artifact without hashes, in a new process, whose progress and messages are shown.

    Args:
        path: The artifact's directory.

    Returns:
        The report of compare.compare.

    Raises:
        ArtifactError, NativeError, GenerationError: as verify_artifact does.
        ResourceError: the process could not be started, or was killed, as for want of memory.
        VerificationError: it ended in another way before it had a report.
    """
    command = [sys.executable, "-P", "-m", _MODULE, str(path)]
    modules = os.pathsep.join(place for place in sys.path if place)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": modules},
        )
    except OSError as problem:
        raise ResourceError(
            f"verification: {command[0]} cannot be started ({problem}); free memory and processes, "
            "or export with --no-verify"
        ) from problem
    with process:
        try:
            report = _follow(process)
        finally:
            process.kill()  # without effect once it has ended; else this process was interrupted
    if report is None:
        raise _obituary(process.returncode)
    return report


class _Bar(ExitStack):
    """An open progress bar."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        super().__init__()
        self.task = self.enter_context(progress(description, total, unit))


def _follow(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Show what the process tells until it ends; its report, or None if it ended without."""
    assert process.stdout is not None
    bars: list[_Bar] = []
    report: dict[str, Any] | None = None
    try:
        for line in process.stdout:
            ((kind, content),) = json.loads(line).items()
            if kind == "start":
                bars.append(_Bar(*content))
            elif kind == "advance":
                bars[-1].task.advance(content)
            elif kind == "stop":
                bars.pop().close()
            elif kind == "log":
                logger.log(*content)
            elif kind == "error":
                raise getattr(errors, content[0])(content[1])
            else:
                report = content
    finally:
        for bar in reversed(bars):
            bar.close()
    process.wait()
    return report


def _obituary(code: int) -> errors.GlassError:
    """The error of a process that has ended without a report."""
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if how == "signal SIGKILL":
        return ResourceError(
            "verification: its process was killed, most likely because memory ran out; free some "
            "and export again, which uses the kept calibration and reference, or lower "
            "verify.density, or export with --no-verify"
        )
    return VerificationError(
        f"verification: its process ended with {how} before it had compared everything; the "
        "runtime may not support this machine: see `glass-export doctor`, or export with "
        "--no-verify"
    )
