"""Streamed exports that end before they are done: what stays, what is said, what is done again."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glass_export import calibrate, paths, pipeline
from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, ResourceError
from glass_export.paths import forget_results
from glass_export.recipe import Recipe
from glass_export.schema import to_data

Checkpoint = Callable[..., Path]
RecipeOf = Callable[..., Recipe]
FORM = ("target.dtype=int4", "target.custom_ops=true", "verify.prompts=2", "verify.tokens=4")
KILLED = """
import json, os, signal, sys
from pathlib import Path
from glass_export import pipeline
from glass_export.errors import RecipeError
from glass_export.recipe import Recipe
from glass_export.schema import from_data
pipeline.capture = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
recipe = from_data(Recipe, json.loads(sys.argv[1]), error=RecipeError, where="")
pipeline.export(recipe, Path(sys.argv[2]), streamed=True)
"""
FILE_LIMIT = 40_000
"""Bytes: less than the weights of a tiny model in int4, more than each other file before them."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the long stages has been run in this process."""
    counter = Counter[str]()

    def counted(module: Any, name: str) -> None:
        stage = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counter[name] += 1
            return stage(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module, name in (
        (calibrate, "write_text"),
        (calibrate, "measure"),
        (pipeline, "make_reference"),
    ):
        counted(module, name)
    monkeypatch.setattr(paths, "_since", 0.0)
    return counter


@contextmanager
def small_disk() -> Iterator[None]:
    """A limit on the size of files makes write() fail as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_killed_export_had_finished_is_not_done_again(
    checkpoint: Checkpoint, recipe_of: RecipeOf, tmp_path: Path, done: Counter[str]
) -> None:
    recipe, output = recipe_of(checkpoint("qwen2"), *FORM, "calibration.seed=7"), tmp_path / "out"
    command = [sys.executable, "-c", KILLED, json.dumps(to_data(recipe)), str(output)]
    assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL
    assert not output.exists() and len([*tmp_path.glob(".out.partial-*")]) == 1

    manifest = pipeline.export(recipe, output, streamed=True)
    assert manifest.verification is not None and manifest.verification["passed"]
    assert len(manifest.verification["checks"]) == 2 * 9
    assert not done
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]

    forget_results()  # --fresh
    pipeline.export(recipe, output, streamed=True)
    assert done == {"write_text": 1, "measure": 1, "make_reference": 1}


@pytest.mark.parametrize("target", ["onnx", pytest.param("executorch", marks=pytest.mark.slow)])
def test_a_disk_that_fills_leaves_the_old_artifact(
    checkpoint: Checkpoint, recipe_of: RecipeOf, tmp_path: Path, target: str
) -> None:
    recipe = recipe_of(checkpoint("llama"), f"target.name={target}", *FORM, "verify.enabled=false")
    output = tmp_path / "out"
    old = pipeline.export(recipe_of(checkpoint("llama"), "verify.enabled=false"), output)
    with small_disk(), pytest.raises(ArtifactError, match="out: disk full .* free some space"):
        pipeline.export(recipe, output, streamed=True)
    assert Artifact.open(output, check="full").manifest == old
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_a_full_cache_is_told_apart_from_a_full_output(
    checkpoint: Checkpoint, recipe_of: RecipeOf, tmp_path: Path
) -> None:
    recipe = recipe_of(checkpoint("llama"), *FORM, "calibration.seed=8")
    with small_disk(), pytest.raises(ResourceError, match="rounded weights.*GLASS_EXPORT_CACHE"):
        pipeline.export(recipe, tmp_path / "out", streamed=True)
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
