"""A contestant's process, seen from the benchmark: requests, replies, and how it ends.

Between its turns a process is stopped (SIGSTOP), where the system can do that: threads that wait
by spinning would otherwise take the processors from the one that is being measured.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

from glass_export.errors import WorkerError

_PACKAGES = Path(__file__).parents[2]
_START = (
    # Another interpreter gets this package, and nothing else from where it is installed.
    "import sys; sys.path.insert(0, sys.argv[1]); import glass_export.bench.workers.serve as s; "
    "del sys.path[0]; s.main()"
)
TIMEOUT = 900.0
"""Seconds that a request may take; loading may include building the native library."""


class WorkerProcess:
    """A running worker; see :mod:`.workers.serve` for what it can be asked."""

    def __init__(self, kind: str, python: Path | None = None, timeout: float = TIMEOUT) -> None:
        """Start a worker of ``kind`` with the interpreter ``python``; None: this one.

        Raises:
            WorkerError: the interpreter cannot be started.
        """
        self._timeout, self._expired = timeout, False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        command = [str(python or sys.executable), "-c", _START, str(_PACKAGES), kind]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                encoding="utf-8",
            )
        except OSError as problem:
            raise WorkerError(f"{command[0]}: cannot be started: {problem}") from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Wake the worker, let it carry out a request alone, and stop it again.

        Raises:
            WorkerError: it refused, died, or took longer than the time limit.
        """
        self._signal("SIGCONT")
        limit = Timer(self._timeout, self._expire)
        limit.start()
        try:
            line = self._exchange(json.dumps({"op": op, **arguments}))
        finally:
            limit.cancel()
        if not line.endswith("\n"):
            raise WorkerError(self._obituary(op))
        self._signal("SIGSTOP")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{reply['kind']}: {reply['error']}", reply["kind"])
        result: dict[str, Any] = reply["ok"]
        return result

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _exchange(self, request: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _obituary(self, op: str) -> str:
        """How the process ended, and the last that it wrote."""
        if self._expired:
            return f"{op!r} took longer than {self._timeout:g} s; the process was ended"
        self._process.kill()
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        last = " | ".join(line.strip() for line in lines[-3:] if line.strip())
        return f"the process ended during {op!r} with {how}: {last or 'it wrote nothing'}"
