"""The command line as tests call it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Exported = Callable[..., Path]
"""The fixture ``exported``."""
Outcome = subprocess.CompletedProcess[str]
SMALL = ["--limit", "2", "--tokens", "16", "--temperature", "1.5", "--threads", "1"]
"""Options that make an evaluation a matter of seconds."""


def glass(*args: str | Path, cwd: Path | None = None, code: int = 0) -> Outcome:
    """Run the real command line in its own process and check its exit code."""
    command = [sys.executable, "-m", "glass_export", *map(str, args)]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)
    assert outcome.returncode == code, outcome
    return outcome
