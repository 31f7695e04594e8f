"""Artifacts of tiny models, exported once a run by the real pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_models import CONTEXT, tiny_checkpoint

from glass_export.paths import cache_dir
from glass_export.recipe import Recipe, resolve

TINY = [
    "calibration.tokens=512",
    "calibration.sequence_length=32",
    "calibration.batch=8",
    f"export.max_length={CONTEXT}",
    "export.prefill_chunk=32",
    "verify.tokens=16",
]


def tiny_recipe(checkpoint: Path, *overrides: str) -> Recipe:
    """A recipe that exports a tiny checkpoint in seconds."""
    return resolve(str(checkpoint), [*TINY, *overrides])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's cache out of the tests, but for native builds: those are by content."""
    patch, builds = pytest.MonkeyPatch(), cache_dir() / "native"
    builds.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("cache")
    (folder / "native").symlink_to(builds.resolve())
    patch.setenv("GLASS_EXPORT_CACHE", str(folder))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``checkpoint(family)``: a Hugging Face folder with a tiny model."""
    return cache(lambda family: tiny_checkpoint(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[[str], Path]
) -> Callable[..., Path]:
    """``exported(family, target="onnx", *overrides)``: an artifact of a tiny model; not to be
    written to.
    """
    from glass_export.pipeline import export

    @cache
    def make(family: str, target: str = "onnx", *overrides: str) -> Path:
        output = tmp_path_factory.mktemp("artifacts") / family
        export(tiny_recipe(checkpoint(family), f"target.name={target}", *overrides), output)
        return output

    return make
