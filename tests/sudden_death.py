"""Exports that are killed or cannot write, and what has to be true afterwards."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glass_export.artifact import Artifact
from glass_export.paths import cache_dir
from glass_export.recipe import Recipe
from glass_export.schema import to_data

HERE = Path(__file__).parent / "faults"
COUNT, FAIL, FAIL_FROM, SHORTEN, KILL = range(5)
"""What faults.c does to the n-th call."""
CODES = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
PATIENCE = 300
"""Seconds that an export may take on a busy machine."""


def build_faults(folder: Path) -> Path:
    """The library of faults.c."""
    library = folder / "libfaults.so"
    compiler = os.environ.get("CC", "cc")
    source = str(HERE / "faults.c")
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(library), source, "-ldl"], check=True)
    return library


def digest(root: Path) -> str:
    """Of the names and contents of all files; empty when there is no such folder."""
    if not root.exists():
        return ""
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(root).as_posix()} ".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@dataclass
class Place:
    """Where one export works: ``out/model`` is the artifact, ``cache`` the cache."""

    root: Path
    runs: int = 0
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.cache, self.output.parent):
            folder.mkdir(parents=True, exist_ok=True)
        native = self.cache / "native"
        if not native.exists():
            native.symlink_to((cache_dir() / "native").resolve())

    @property
    def output(self) -> Path:
        return self.root / "out" / "model"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def leftovers(self) -> list[str]:
        """What a finished export should not have left, in the output's folder and in the cache."""
        known = {"model", ".model.lock"}
        beside = [p.name for p in self.output.parent.iterdir() if p.name not in known]
        partial = [p.name for p in self.cache.rglob("*.partial")]
        return beside + partial


@dataclass
class Run:
    """A child at work."""

    pid: int
    folder: Path

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def outcome(self) -> str:
        return "\n".join(self.lines("outcome"))


class Exporter:
    """The warm server, see exporter.py."""

    def __init__(self, library: Path, log: Path) -> None:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join(place for place in sys.path if place),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "exporter.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()
        self._log.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the server has ended: {Path(self._log.name).read_text()[-3000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def warm(self, recipe: Recipe, place: Place) -> None:
        job = {"recipe": to_data(recipe), "cache": str(place.cache), "output": str(place.output)}
        self._ask({"warm": job})

    def start(self, place: Place, recipe: Recipe | None = None, **more: Any) -> Run:
        """Begin an export in ``place``, or what ``more`` says; see exporter.py."""
        place.runs += 1
        folder = place.root / f"run-{place.runs}"
        folder.mkdir()
        job = {
            "cache": str(place.cache),
            "output": str(place.output),
            "folder": str(folder),
            "armed": [str(place.cache), str(place.output.parent)],
            **({"recipe": to_data(recipe)} if recipe else {}),
            **more,
        }
        return Run(self._ask({"start": job})["pid"], folder)

    def wait(self, run: Run) -> int:
        """Exit status of a child, negative for a signal."""
        return int(self._ask({"wait": run.pid})["status"])

    def finish(self, place: Place, recipe: Recipe | None = None, **more: Any) -> Run:
        """Run to the end."""
        run = self.start(place, recipe, **more)
        self.wait(run)
        return run


@dataclass
class Torture:
    """One target's exports. ``old`` and ``new`` are finished artifacts; ``recipe`` makes the new.

    ``seconds``: what an undisturbed export with an empty cache takes; ``calls``: what it writes,
    in order.
    """

    exporter: Exporter
    recipe: Recipe
    root: Path
    old: Path
    new: str = ""
    seconds: float = 0.0
    calls: list[str] = field(default_factory=list)
    warm_cache: Path | None = None
    warm_calls: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def prepare(self) -> None:
        """Make the new artifact undisturbed, once with an empty cache and once with its results."""
        place = self.place(old=False)
        start = time.monotonic()
        run = self.exporter.finish(place, self.recipe)
        self.seconds = time.monotonic() - start
        assert run.outcome == "ok", run.outcome
        self.new, self.calls = digest(place.output), relative(place, run)
        again = self.exporter.finish(place, self.recipe)
        assert again.outcome == "ok" and digest(place.output) == self.new
        assert not [line for line in again.lines("events") if line.startswith("begin")]
        self.warm_cache = place.cache
        self.warm_calls = self.calls_of_replacing()  # in a fresh place, as faults are injected

    def place(self, *, old: bool, warm: bool = False) -> Place:
        """A fresh place, with the old artifact or none, with an empty cache or a full one."""
        self.number += 1
        root = self.root / f"place-{self.number}"
        if warm:
            assert self.warm_cache is not None
            shutil.copytree(self.warm_cache, root / "cache", symlinks=True)
        place = Place(root)
        if old:
            shutil.copytree(self.old, place.output)
        return place

    def check(self, place: Place, *, old: bool) -> str:
        """The output is the old artifact, the new one, or nothing where nothing was."""
        allowed = {self.new: "new", (digest(self.old) if old else ""): "old" if old else "nothing"}
        got = digest(place.output)
        if not got:  # between two renames, where folders cannot be exchanged: never here
            assert not old, f"{place.root}: the old artifact has gone"
        assert got in allowed, f"{place.root}: half an artifact"
        if got:
            Artifact.open(place.output, check="full")
        self.found[allowed[got]] += 1
        return allowed[got]

    def resume(self, place: Place, *, repeats: bool = False) -> None:
        """An undisturbed export now gives the new artifact, and repeats no finished stage."""
        run = self.exporter.finish(place, self.recipe)
        assert run.outcome == "ok", f"{place.root}: {run.outcome}"
        assert digest(place.output) == self.new, f"{place.root}: other bytes after a fault"
        assert not place.leftovers(), f"{place.root}: left over: {place.leftovers()}"
        place.events += run.lines("events")
        assert repeats or not repeated(place.events), f"{place.root}: {place.events}"
        shutil.rmtree(place.root)

    def calls_of_replacing(self) -> list[str]:
        """The write calls of an export that replaces an artifact, with results from the cache."""
        place = self.place(old=True, warm=True)
        calls = relative(place, self.exporter.finish(place, self.recipe))
        shutil.rmtree(place.root)
        return calls

    def kill_at_random(self, dice: random.Random, kills: int) -> None:
        """Kill one export after the other in the same place, then let it finish."""
        old = dice.random() < 0.5
        place = self.place(old=old)
        for _ in range(kills):
            run = self.exporter.start(place, self.recipe)
            time.sleep(dice.uniform(0, 1.05 * self.seconds))
            run.kill()
            self.found["killed" if self.exporter.wait(run) < 0 else "was done"] += 1
            place.events += run.lines("events")
            self.check(place, old=old)
        self.resume(place)

    def inject(self, nth: int, action: int, code: int = 0, *, old: bool, warm: bool) -> None:
        """One fault at the n-th write call; what is said, what is there, and what follows."""
        place = self.place(old=old, warm=warm)
        fault = {"action": action, "nth": nth, "code": code}
        run = self.exporter.start(place, self.recipe, fault=fault)
        status = self.exporter.wait(run)
        place.events += run.lines("events")
        state = self.check(place, old=old)
        where = f"{place.root}: call {nth}, {code}: {run.outcome}"
        if action == KILL:
            assert status == -signal.SIGKILL, where
        else:
            assert run.outcome and not run.outcome.startswith("unexpected"), where
            assert run.outcome != "ok" or state == "new", where
            assert action != SHORTEN or run.outcome == "ok", where
            self.found["error told" if run.outcome != "ok" else "went on"] += 1
        self.resume(place, repeats=action != KILL)


def relative(place: Place, run: Run) -> list[str]:
    """A run's write calls, with paths below the place."""
    return [line.replace(f"{place.root}/", "") for line in run.lines("trace")]


def repeated(events: list[str]) -> set[str]:
    """Stages that began again after their results had been kept."""
    kept: set[str] = set()
    again: set[str] = set()
    for event in events:
        what, stage = event.split()
        if what == "kept":
            kept |= {"measure", "text"} if stage == "measure" else {stage}
        elif stage in kept:
            again.add(stage)
    return again
