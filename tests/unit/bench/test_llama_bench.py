"""llama-bench as a contestant: what it is asked, what is read, and how it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from glass_export.bench.contestants import Contestant, Settings, peer_contestant
from glass_export.bench.llama_bench import LlamaBench
from glass_export.bench.measure import measure
from glass_export.bench.outcome import Case
from glass_export.errors import BenchError, WorkerError

PROGRAM = """#!{python}
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if options["--model"].endswith("bad"):
    sys.exit("error: failed to load model")
if options["--model"].endswith("text"):
    sys.exit(print("| model | t/s |"))
prompt, generate, depth = (int(options["--n-" + n]) for n in ("prompt", "gen", "depth"))
assert (options["--threads"], options["--repetitions"], options["--output"]) == ("1", "1", "json")
assert (prompt == 0) != (generate == 0)
speed = 100.0 * prompt if prompt else generate + depth
test = {{"build_commit": "abc", "build_number": 7, "avg_ts": speed, "avg_ns": 2e6}}
print(json.dumps([test]))
"""
Make = Callable[..., Contestant]


@pytest.fixture
def peer(contestant: Make, tmp_path: Path) -> Callable[[str], Contestant]:
    """``peer(name)``: llama-bench with a model of that name."""
    program = tmp_path / "llama-bench"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)

    def make(name: str) -> Contestant:
        model = tmp_path / name
        model.touch()
        return peer_contestant("llama-bench", model, contestant("ours"), llama_bench=program)

    return make


def test_prompt_and_decode_are_tests_of_their_own(peer: Callable[[str], Contestant]) -> None:
    runner = LlamaBench(peer("good"), threads=1)
    assert runner.engine == "llama.cpp 7 (abc)"
    figures = runner.turn(Case("llama-bench", None, 1, 16), 3)
    assert figures == {"ttft_ms": 2.0, "prefill_tps": 1600.0, "decode_tps": 3 + 16}


def test_it_takes_turns_but_is_neither_scored_nor_weighed(
    contestant: Make, peer: Callable[[str], Contestant]
) -> None:
    settings = Settings(densities=(1.0,), threads=(1,), contexts=(4,), repeats=2, tokens=3)
    outcome = measure([contestant("ours", (1.0,)), peer("good")], settings)
    case = Case("llama-bench", None, 1, 4)
    assert outcome.failures == {} and len(outcome.samples[case]) == 2
    assert set(outcome.quality) == {("ours", 1.0)} and case not in outcome.memory


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("bad", "ended with exit code 1: error: failed to load model"),
        ("text", "printed '| model .* expected the JSON of one test"),
    ],
)
def test_a_failure_tells_the_programs_last_words(
    peer: Callable[[str], Contestant], model: str, message: str
) -> None:
    with pytest.raises(WorkerError, match=f"^llama-bench: .*{message}"):
        LlamaBench(peer(model), threads=1)


def test_a_file_that_is_no_program(peer: Callable[[str], Contestant]) -> None:
    good = peer("good")
    with pytest.raises(WorkerError, match="good cannot be started"):
        LlamaBench(replace(good, program=good.model), threads=1)


def test_the_program_is_named_or_in_the_path(
    contestant: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, nothing = contestant("ours"), tmp_path / "nothing"
    with pytest.raises(BenchError, match="nothing: no such file; expected the program llama-bench"):
        peer_contestant("llama-bench", tmp_path, ours, llama_bench=nothing)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="there is no llama-bench in PATH"):
        peer_contestant("llama-bench", tmp_path, ours)
    program = tmp_path / "llama-bench"
    program.touch(0o755)
    assert peer_contestant("llama-bench", tmp_path, ours).program == program
