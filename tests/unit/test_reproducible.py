"""Equal exports are equal byte for byte, wherever and however they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export import pipeline
from glass_export.recipe import Recipe
from glass_export.schema import to_data

Checkpoint = Callable[..., Path]
RecipeOf = Callable[..., Recipe]
EXPORT = """
import json, os, sys
from pathlib import Path
import torch
from glass_export import pipeline
from glass_export.errors import RecipeError
from glass_export.recipe import Recipe
from glass_export.schema import from_data
assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
for number, data in enumerate(json.loads(sys.argv[1])):
    recipe = from_data(Recipe, data, error=RecipeError, where="")
    pipeline.export(recipe, Path(sys.argv[2]) / str(number), streamed=False)
"""
FORMS = (
    ("target.name=onnx", "selection.mode=auto"),
    ("target.name=executorch", "target.dtype=int4", "selection.mode=auto"),
)
"""With a search, whose outcome is recorded."""


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def exported_apart(recipes: list[Recipe], folder: Path, threads: int, **environment: str) -> Path:
    """Export in a process of its own with its own home, cache, directory and umask."""
    for name in ("home", "here", "cache", "out"):
        (folder / name).mkdir(parents=True)
    native = Path(os.environ["GLASS_EXPORT_CACHE"]) / "native"
    (folder / "cache" / "native").symlink_to(native.resolve())
    own = {
        "OMP_NUM_THREADS": str(threads), "HOME": str(folder / "home"),
        "GLASS_EXPORT_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(place for place in sys.path if place), **environment,
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", EXPORT, json.dumps([to_data(r) for r in recipes]), folder / "out"],
        env=os.environ | own, cwd=folder / "here", umask=0o077 if threads == 1 else 0o002,
        check=True, timeout=800,
    )  # fmt: skip
    return folder / "out"


@pytest.mark.slow
def test_two_fresh_exports_in_other_surroundings(
    checkpoint: Checkpoint, recipe_of: RecipeOf, tmp_path: Path
) -> None:
    """Threads, hash seed, directory, home, umask, time and its zone differ; caches are empty."""
    model = checkpoint("llama", 1)
    recipes = [recipe_of(model, *form, "verify.tokens=8") for form in FORMS]
    first = exported_apart(recipes, tmp_path / "a", 1, PYTHONHASHSEED="1", TZ="UTC")
    second = exported_apart(
        recipes, tmp_path / "b" / "deeper", 2, PYTHONHASHSEED="2", TZ="Asia/Tokyo"
    )
    one, other = contents(first), contents(second)
    assert one.keys() == other.keys() and {"0/weights.bin", "1/model.pte"} <= one.keys()
    assert [name for name in one if one[name] != other[name]] == []
    where = [os.fsencode(place) for place in (tmp_path, model.parent, Path.home() / "x")]
    assert not [name for name in one for place in where if place in one[name]]


@pytest.mark.parametrize("target", ["onnx", pytest.param("executorch", marks=pytest.mark.slow)])
def test_a_streamed_export_and_one_of_a_folder_elsewhere(
    checkpoint: Checkpoint, recipe_of: RecipeOf, tmp_path: Path, target: str
) -> None:
    model, form = checkpoint("qwen2", 1), (f"target.name={target}", "verify.tokens=4")
    link = tmp_path / "elsewhere" / model.name
    link.parent.mkdir()
    link.symlink_to(model)
    plain = pipeline.export(recipe_of(model, *form), tmp_path / "plain", streamed=False)
    streamed = pipeline.export(recipe_of(link, *form), tmp_path / "streamed", streamed=True)
    assert plain == streamed
    assert contents(tmp_path / "plain") == contents(tmp_path / "streamed")
