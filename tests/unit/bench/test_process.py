"""The protocol with real processes: replies, refusals, deaths, and sleep between turns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_artifact

from glass_export.bench.process import WorkerProcess
from glass_export.errors import WorkerError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def loaded(python: Path, model: str, timeout: float = 60.0) -> WorkerProcess:
    worker = WorkerProcess("artifact", python, timeout)
    worker.ask("load", model=model, threads=1, max_length=64)
    return worker


def test_every_request_has_its_reply(toy_python: Path) -> None:
    with WorkerProcess("artifact", toy_python) as worker:
        info = worker.ask("load", model="good", threads=1, max_length=64)
        assert (info["engine"], info["vocab_size"], info["prefills"]) == ("toy 1", 4, True)
        times = worker.ask("prefill", tokens=[1], mask=[1.0], density=0.5)
        assert (times["fusion_ms"], times["select_ms"]) == (2.0, 1.0)
        assert times["ttft_ms"] >= times["prefill_ms"] > 0
        assert worker.ask("decode", count=3)["ms"] > 0
        if sys.platform == "linux":
            memory = worker.ask("quit")
            assert memory["peak_rss_mb"] >= info["load_rss_mb"] > memory["anon_mb"] >= 8.0


def test_dense_peers_are_not_asked_to_select(toy_python: Path) -> None:
    with loaded(toy_python, "good") as worker:
        times = worker.ask("prefill", tokens=[1], mask=[1.0], density=None)
        assert set(times) == {"prefill_ms", "ttft_ms"}


def test_an_error_is_told_and_survived(toy_python: Path) -> None:
    with WorkerProcess("artifact", toy_python) as worker:
        with pytest.raises(WorkerError, match="no model is loaded"):
            worker.ask("decode", count=1)
        with pytest.raises(WorkerError, match="ValueError: no such model") as caught:
            worker.ask("load", model="refused", threads=1, max_length=64)
        assert caught.value.kind == "ValueError"
        assert worker.ask("load", model="good", threads=1, max_length=64)["engine"] == "toy 1"


def test_a_crash_tells_how_and_the_last_words(toy_python: Path) -> None:
    with (
        loaded(toy_python, "crash") as worker,
        pytest.raises(WorkerError, match=r"ended during 'decode' with exit code 3: .*boom"),
    ):
        worker.ask("decode", count=20)


def test_a_killed_process_is_an_error_at_the_next_request(toy_python: Path) -> None:
    with loaded(toy_python, "good") as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(WorkerError, match="signal SIGKILL"):
            worker.ask("decode", count=1)


def test_a_request_has_a_time_limit(toy_python: Path) -> None:
    with loaded(toy_python, "hang", timeout=5.0) as worker:
        worker._timeout = 0.5
        with pytest.raises(WorkerError, match=r"'decode' took longer than 0\.5 s"):
            worker.ask("decode", count=1)


def test_an_interpreter_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="nothing: cannot be started"):
        WorkerProcess("artifact", tmp_path / "nothing")


def test_a_damaged_artifact_is_the_workers_error(tmp_path: Path) -> None:
    folder = tiny_artifact.write(tmp_path / "tiny")
    (folder / "weights.bin").write_bytes(b"short")
    with (
        WorkerProcess("artifact") as worker,
        pytest.raises(WorkerError, match="ArtifactError: .*weights.bin: got 5 bytes"),
    ):
        worker.ask("load", model=str(folder), threads=1, max_length=32)


@LINUX
def test_a_process_sleeps_between_its_turns(toy_python: Path) -> None:
    with loaded(toy_python, "good") as worker:
        worker.ask("decode", count=1)
        status = Path(f"/proc/{worker.pid}/stat")
        deadline = time.monotonic() + 5
        while status.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline, "it is not stopped"
        used = status.read_text().split()[13:15]
        time.sleep(0.2)
        assert status.read_text().split()[13:15] == used
        assert worker.ask("decode", count=1)["ms"] > 0


@LINUX
def test_a_stopped_process_does_not_outlive_a_killed_benchmark(toy_python: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from glass_export.bench.process import WorkerProcess\n"
        "worker = WorkerProcess('artifact', Path(sys.argv[1]))\n"
        "worker.ask('load', model='good', threads=1, max_length=8)\n"
        "print(worker.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(toy_python)]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert outcome.returncode == -signal.SIGKILL
    status, deadline = Path(f"/proc/{int(outcome.stdout)}/stat"), time.monotonic() + 5
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it is still there"
