"""Real models: which a test run may use, and the command line that exports them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from glass_export.paths import cache_dir
from glass_export.recipe import resolve


def fetched_or_skip(name: str) -> None:
    """Skip unless the model is cached, small, or all were asked for (as CI does)."""
    source = resolve(name).model.sources[-1]
    present = (cache_dir() / "models" / source.sha256[:16] / source.file).is_file()
    if not (present or name == "smollm2" or os.environ.get("GLASS_TEST_ALL_MODELS")):
        pytest.skip(f"{name} is not in the cache; set GLASS_TEST_ALL_MODELS=1 to download it")


def glass_export(*arguments: str) -> str:
    """Run the command line; returns what it writes to stdout."""
    command = [sys.executable, "-m", "glass_export", *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout
