"""The fuzz targets, for a short time; ``make fuzz`` runs them for as long as wanted."""

from __future__ import annotations

from pathlib import Path

import fuzz
import native_build
import pytest

SECONDS = 60


@pytest.mark.slow
@pytest.mark.skipif(not native_build.can_fuzz(), reason=native_build.NO_FUZZER)
def test_readers_withstand_changed_files(tmp_path: Path) -> None:
    inputs = fuzz.run(native_build.fuzzers(), tmp_path, SECONDS, seed=1)
    assert set(inputs) == set(fuzz.TARGETS) and min(inputs.values()) > 10
