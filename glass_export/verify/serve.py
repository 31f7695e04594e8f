"""``python -m glass_export.verify.serve ARTIFACT``: verify, and tell another process about it.

Writes one JSON object a line. Of progress bars, which can be nested, ``{"start": [DESCRIPTION,
TOTAL, UNIT]}``, ``{"advance": AMOUNT}`` and ``{"stop": null}``; of messages ``{"log": [LEVEL,
MESSAGE]}``; at the end ``{"report": REPORT}``, or ``{"error": [KIND, MESSAGE]}`` of a GlassError.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glass_export import log
from glass_export.errors import GlassError
from glass_export.verify import verify_artifact

Tell = Callable[[dict[str, Any]], None]


class _Sink:
    """Tells of bars; of nested ones it is the innermost that advances."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def start(self, description: str, total: float | None, unit: str) -> log.Task:
        self._tell({"start": [description, total, unit]})
        return self

    def stop(self, task: log.Task) -> None:
        self._tell({"stop": None})

    def advance(self, amount: float = 1.0) -> None:
        self._tell({"advance": amount})


class _Handler(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell({"log": [record.levelno, record.getMessage()]})


def main() -> None:
    """Verify the artifact named by the last argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever waits for the report
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the lines

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    log.configure(sink=_Sink(tell))
    log.logger.addHandler(_Handler(tell))
    try:
        tell({"report": verify_artifact(Path(sys.argv[-1]), check_hashes=False)})
    except GlassError as problem:
        tell({"error": [type(problem).__name__, str(problem)]})


if __name__ == "__main__":
    main()
