"""Which real models a test run may use."""

from __future__ import annotations

import os

import pytest

from glass_export.paths import cache_dir
from glass_export.recipe import resolve


def fetched_or_skip(name: str) -> None:
    """Skip unless the model is cached, small, or all were asked for (as CI does)."""
    source = resolve(name).model.sources[-1]
    present = (cache_dir() / "models" / source.sha256[:16] / source.file).is_file()
    if not (present or name == "smollm2" or os.environ.get("GLASS_TEST_ALL_MODELS")):
        pytest.skip(f"{name} is not in the cache; set GLASS_TEST_ALL_MODELS=1 to download it")
