"""Artifacts of SmolLM2, exported once a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from real_models import glass_export


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``smollm2(target)``: a verified artifact; not to be written to.

    Exported with a short calibration text: these are tests of the way, not of the prior. The rule
    is searched for once; the second target finds it in the cache.
    """

    @cache
    def export(target: str) -> Path:
        output = tmp_path_factory.mktemp("real") / f"smollm2-{target}"
        report = glass_export(
            "--model", "smollm2", "--target", target, "--output", str(output), "--json",
            "--set", "calibration.tokens=1024", "--set", "export.max_length=512",
            "--set", "verify.tokens=64",
        )  # fmt: skip
        assert json.loads(report)["verification"]["passed"]
        return output

    return export
