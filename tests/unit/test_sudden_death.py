"""Exports die at random instants and at every write; TORTURE_KILLS makes it the long version.

Short, as in CI: some 20 kills and a few faults of each kind. With TORTURE_KILLS=300 so many random
kills a target, and every write call of an export fails once with ENOSPC and once with EIO, writes
half of what it was given, and dies.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sudden_death import (
    CODES,
    FAIL,
    FAIL_FROM,
    KILL,
    SHORTEN,
    Exporter,
    Place,
    Torture,
    build_faults,
    digest,
    relative,
)

from glass_export.artifact import Artifact
from glass_export.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(6 * 3600),
    pytest.mark.skipif(sys.platform != "linux", reason="faults are injected by LD_PRELOAD"),
]
KILLS = int(os.environ.get("TORTURE_KILLS", "0"))
LONG = KILLS > 0
SHORT_KILLS = {"onnx": 14, "executorch": 6}
"""Of the version that CI runs."""
SEED = int(os.environ.get("TORTURE_SEED", "1"))
TINY = (
    "verify.prompts=2", "verify.tokens=4", "calibration.tokens=1100", "calibration.batch=16",
)  # fmt: skip
"""More tokens than are measured between two saves of partial sums."""
PROFILE = {"density": 0.5, "kl": 0.25, "speedup": 1.5, "device": "a test"}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    folder = tmp_path_factory.mktemp("faults")
    server = Exporter(build_faults(folder), folder / "log")
    yield server
    server.close()


@pytest.fixture(scope="module", params=["onnx", "executorch"])
def torture(
    request: pytest.FixtureRequest,
    exporter: Exporter,
    checkpoint: Callable[..., Path],
    recipe_of: Callable[..., Recipe],
    tmp_path_factory: pytest.TempPathFactory,
) -> Torture:
    root = tmp_path_factory.mktemp(request.param)
    form = (f"target.name={request.param}", *TINY)
    model = checkpoint("llama", 1)
    first = Place(root / "old")
    exporter.warm(recipe_of(model, *form, "verify.enabled=false"), first)
    made = Torture(exporter, recipe_of(model, *form, "calibration.seed=5"), root, first.output)
    made.prepare()
    return made


def same_for_all_targets(torture: Torture) -> None:
    """Skip what the first target has shown already, but in the long version."""
    if torture.recipe.target.name != "onnx" and not LONG:
        pytest.skip("the same code for all targets")


def report(torture: Torture, what: str) -> None:
    """One line of figures for docs/reliability.md."""
    target, counts = torture.recipe.target.name, dict(sorted(torture.found.items()))
    line = {"test": what, "target": target, "seconds": round(torture.seconds, 2), **counts}
    print(json.dumps(line))
    torture.found.clear()


def chosen(calls: list[int], count: int) -> list[int]:
    """All of the calls in the long version, else some."""
    return calls if LONG else sorted(random.Random(SEED).sample(calls, min(count, len(calls))))


def numbers(calls: list[str], folder: str, *kinds: str) -> list[int]:
    """Which calls write below ``folder``, of these kinds or of all."""
    return [
        number
        for number, (kind, path) in enumerate(call.split(" ", 1) for call in calls)
        if path.startswith(folder) and (not kinds or kind in kinds)
    ]


def test_random_kills(torture: Torture) -> None:
    dice = random.Random(SEED)
    left = KILLS or SHORT_KILLS[torture.recipe.target.name]
    while left > 0:
        kills = min(left, dice.randint(1, 4))
        torture.kill_at_random(dice, kills)
        left -= kills
    report(torture, "random kills")


@pytest.mark.parametrize("folder", ["cache", "out"])
@pytest.mark.parametrize("fault", [*CODES, "short", "kill", "full"])
def test_every_write_call(torture: Torture, folder: str, fault: str) -> None:
    if folder == "cache":
        same_for_all_targets(torture)
    warm = folder == "out"  # with results from the cache an export writes little else
    calls = torture.warm_calls if warm else torture.calls
    kinds = ("write", "pwrite") if fault == "short" else ()
    which = numbers(calls, folder, *kinds)
    assert which
    action = {"short": SHORTEN, "kill": KILL, "full": FAIL_FROM}.get(fault, FAIL)
    code = CODES.get(fault, CODES["ENOSPC"])
    for nth in chosen(which, 2 if folder == "cache" else 1):
        torture.inject(nth, action, code, old=nth % 2 == 0, warm=warm)
    report(torture, f"{fault} at {len(which)} calls below {folder}")


def test_the_exchange_dies_before_and_after(torture: Torture) -> None:
    same_for_all_targets(torture)
    (swap,) = [n for n, call in enumerate(torture.calls_of_replacing()) if "exchange" in call]
    for nth, expected in ((swap, "old"), (swap + 1, "new")):
        place = torture.place(old=True, warm=True)
        fault = {"action": KILL, "nth": nth}
        torture.exporter.finish(place, torture.recipe, fault=fault)
        assert torture.check(place, old=True) == expected
        torture.resume(place)


def test_what_is_put_in_place_has_reached_the_disk(torture: Torture) -> None:
    """Every file and folder is flushed after its last change and before the exchange."""
    calls = [call.split(" ", 1) for call in torture.calls_of_replacing()]
    swap = next(n for n, (kind, _) in enumerate(calls) if kind == "exchange")
    last = {path: n for n, (kind, path) in enumerate(calls) if kind in ("write", "rename")}
    synced = {path: n for n, (kind, path) in enumerate(calls[:swap]) if kind == "sync"}
    written = {path for path in last if path.startswith("out/.model.partial-")}
    finished = {path for path in written if not path.endswith(".partial")}
    assert len(finished) >= 6
    assert all(last[path] < synced[path] for path in finished)
    (folder,) = {path.split("/")[1] for path in finished}
    assert last and synced[f"out/{folder}"] > max(last[path] for path in finished)
    assert ["sync", "out"] in calls[swap:]


def test_two_at_once(torture: Torture) -> None:
    same_for_all_targets(torture)
    place = torture.place(old=True, warm=True)
    first = torture.exporter.start(place, torture.recipe)
    while not first.lines("trace"):
        time.sleep(0.001)
    second = torture.exporter.finish(place, torture.recipe)
    torture.exporter.wait(first)
    outcomes = sorted([first.outcome, second.outcome])
    assert outcomes[1] == "ok" and "in use by another export; wait for it" in outcomes[0], outcomes
    assert digest(place.output) == torture.new
    torture.resume(place)


def test_a_killed_tune_leaves_the_old_manifest_or_the_new(torture: Torture) -> None:
    same_for_all_targets(torture)
    place = torture.place(old=True, warm=True)
    undisturbed = torture.exporter.finish(place, profile=PROFILE)
    assert undisturbed.outcome == "ok"
    new, calls = digest(place.output), relative(place, undisturbed)
    writes = numbers(calls, "out")
    for nth in writes if LONG else writes[::3]:
        for action, code in ((KILL, 0), *((FAIL, code) for code in CODES.values())):
            place = torture.place(old=True, warm=True)
            fault = {"action": action, "nth": nth, "code": code}
            run = torture.exporter.finish(place, profile=PROFILE, fault=fault)
            opened = Artifact.open(place.output, check="full")
            tuned = "tuned" in opened.manifest.profiles
            told = run.outcome.startswith("ArtifactError")
            assert not run.outcome if action == KILL else told or (run.outcome == "ok" and tuned)
            torture.found["new" if tuned else "old"] += 1
            assert torture.exporter.finish(place, profile=PROFILE).outcome == "ok"
            assert digest(place.output) == new
            shutil.rmtree(place.root)
    report(torture, f"tune, {len(writes)} calls")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_team_that_loses_a_process(torture: Torture, victim: int) -> None:
    """The other one ends too and says why; what one process makes of the cache is the same."""
    same_for_all_targets(torture)
    dice = random.Random(SEED + victim)
    for _ in range(max(1, KILLS // 30)):
        place, port = torture.place(old=True), str(free_port())
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        runs = [
            torture.exporter.start(place, torture.recipe, team={**address, "RANK": rank})
            for rank in ("0", "1")
        ]
        while not any("begin text" in run.lines("events") for run in runs):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.5 * torture.seconds))
        runs[victim].kill()
        for run in runs:
            torture.exporter.wait(run)
        survivor = runs[1 - victim].outcome
        told = survivor == "ok" or "another process of the team has ended" in survivor
        assert told, survivor
        torture.found["survivor done" if survivor == "ok" else "survivor told"] += 1
        torture.check(place, old=True)
        torture.resume(place, repeats=True)
    report(torture, f"teams of two, process {victim} killed")
