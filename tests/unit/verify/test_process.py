"""Verification in another process: the same report and errors, progress, and how it can end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from interruption import Stop, StopAfter

from glass_export import log
from glass_export.errors import ArtifactError, GlassError, ResourceError, VerificationError
from glass_export.verify import verify_artifact
from glass_export.verify.process import verify_in_process

Exported = Callable[..., Path]


class Bars(log._Silent):
    """What a sink was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def start(self, description: str, total: float | None, unit: str) -> log.Task:
        self.told.append((description, total, unit))
        return self

    def stop(self, task: log.Task) -> None:
        self.told.append("stop")

    def advance(self, amount: float = 1.0) -> None:
        self.told.append(amount)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Callable[[log.ProgressSink], None]:
    """Installs a sink for the time of the test."""
    request.addfinalizer(log.configure)
    return lambda sink: log.configure(sink=sink)


def test_report_and_progress_are_those_of_this_process(
    exported: Exported, shown: Callable[[log.ProgressSink], None]
) -> None:
    path, results = exported("llama", "onnx"), []
    for verify in (verify_in_process, lambda path: verify_artifact(path, check_hashes=False)):
        bars = Bars()
        shown(bars)
        results.append((verify(path), bars.told))
    assert results[0] == results[1]
    assert results[0][1] == [("verify", 4, "prompts"), 1.0, 1.0, 1.0, 1.0, "stop"]


def test_errors_and_messages_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ArtifactError) as here:
        verify_artifact(tmp_path / "nothing")
    with pytest.raises(ArtifactError) as there:
        verify_in_process(tmp_path / "nothing")
    assert str(there.value) == str(here.value)
    answers(tmp_path, monkeypatch, """echo '{"log": [30, "slow"]}'; echo '{"report": {}}'""")
    with caplog.at_level(logging.WARNING, logger="glass_export"):
        assert verify_in_process(tmp_path) == {}
    assert caplog.record_tuples == [("glass_export", logging.WARNING, "slow")]


@pytest.mark.parametrize(
    ("ends", "error", "message"),
    [
        ("kill -KILL $$", ResourceError, "killed, most likely because memory ran out; free some"),
        ("kill -SEGV $$", VerificationError, "ended with signal SIGSEGV before"),
        ("exit 3", VerificationError, "ended with exit code 3 before"),
    ],
)
def test_another_end_says_what_to_do(
    ends: str, error: type[GlassError], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[log.ProgressSink], None],
) -> None:  # fmt: skip
    bars = Bars()
    shown(bars)
    answers(tmp_path, monkeypatch, f"""echo '{{"start": ["verify", 4, "prompts"]}}'; {ends}""")
    with pytest.raises(error, match=message) as caught:
        verify_in_process(tmp_path)
    assert "--no-verify" in str(caught.value)
    assert bars.told == [("verify", 4, "prompts"), "stop"]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(ResourceError, match="cannot be started"):
        verify_in_process(tmp_path)


def test_an_interruption_ends_the_process(
    exported: Exported, shown: Callable[[log.ProgressSink], None]
) -> None:
    shown(StopAfter("verify", 0))
    with pytest.raises(Stop):
        verify_in_process(exported("llama", "onnx"))
    commands = [child.cmdline() for child in psutil.Process().children()]
    assert not [command for command in commands if "glass_export.verify.serve" in command]


def answers(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have a shell script verify."""
    path = folder / "verifier"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
