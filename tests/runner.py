"""The program glass_run as tests call it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

Argument = str | bytes | Path


def call(program: Path, *arguments: Argument, code: int = 0, typed: str = "") -> tuple[str, str]:
    """Run it and check its exit status; returns what it wrote to stdout and stderr."""
    outcome = subprocess.run([program, *arguments], input=typed.encode(), capture_output=True)
    out, error = outcome.stdout.decode(), outcome.stderr.decode()
    assert outcome.returncode == code, (outcome.returncode, out, error)
    return out, error


def answer(program: Path, artifact: Path, *options: Argument, typed: str = "") -> dict[str, Any]:
    """What it prints with ``--json``."""
    out, _ = call(program, artifact, "--json", *options, typed=typed)
    result: dict[str, Any] = json.loads(out)
    return result


def refusal(program: Path, *arguments: Argument, code: int) -> str:
    """Its message when it refuses: one line on stderr, nothing on stdout."""
    out, error = call(program, *arguments, code=code)
    assert out == "" and error.startswith("glass_run: ") and error.count("\n") == 1, (out, error)
    return error.strip()
