"""Calibrations by several processes: the same prior, bit for bit, as by one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glass_export.artifact import PRIOR_NAME, Artifact
from glass_export.calibrate.statistics import RUNS
from glass_export.calibrate.team import ALONE, Team, current
from glass_export.calibrate.text import MIN_TOKENS
from glass_export.prior import Prior

# Two full rounds and the rest of a third.
SETTINGS = (
    "calibration.tokens=300", "calibration.sequence_length=16", "calibration.batch=8",
    "selection.mode=fixed", "export.max_length=96",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def export(checkpoint: Path, output: Path, size: int) -> Path:
    """Export by so many processes, started as torchrun starts them; one is started by itself."""
    cache = str(output.parent / f"cache-{size}")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-m", "glass_export", "--model", str(checkpoint), "--no-verify",
               "--output", str(output), *settings]  # fmt: skip
    shared = os.environ | {"GLASS_EXPORT_CACHE": cache, "OMP_NUM_THREADS": "1"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    places = [
        {**address, "RANK": rank, "WORLD_SIZE": str(size), "LOCAL_RANK": rank}
        for rank in map(str, range(size))
    ]
    processes = [
        subprocess.Popen(command, env=shared | (own if size > 1 else {}), stderr=subprocess.PIPE)
        for own in places
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors.decode()
    return output


@pytest.mark.slow
def test_two_processes_measure_the_prior_of_one(
    checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [export(checkpoint("llama"), tmp_path / str(size), size) for size in (1, 2)]
    priors = [Prior.load(path / PRIOR_NAME) for path in paths]
    assert Artifact.open(paths[1], check="full").manifest.prior.tokens == 300 > MIN_TOKENS
    for statistic, wanted in priors[0].statistics.items():
        np.testing.assert_array_equal(priors[1].statistics[statistic], wanted)
    files = [{p.name: p.read_bytes() for p in path.iterdir()} for path in paths]
    assert files[0] == files[1]
    # The helper kept nothing: there is one calibration, and what the leader wrote of it.
    (kept,) = (tmp_path / "cache-2" / "priors").iterdir()
    assert {file.name for file in kept.iterdir()} == {"text.safetensors", "prior.safetensors"}


def test_a_process_that_nobody_else_started_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    current.cache_clear()
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # without a rank: not started by a launcher
    assert current() is ALONE and ALONE.leads
    assert ALONE.share("text") == "text" and ALONE.collect(3) == [3]
    current.cache_clear()


@pytest.mark.parametrize("size", [1, 2, 3, RUNS, RUNS + 3])
def test_every_run_has_one_process(size: int) -> None:
    shares = [range(rank, RUNS, size) for rank in range(size)]
    assert sorted(run for share in shares for run in share) == list(range(RUNS))
    assert not Team(1, 2).leads
