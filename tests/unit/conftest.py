"""Artifacts of tiny models, exported once a run by the real pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_models import CONTEXT, tiny_checkpoint

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
    """Keep the user's cache out of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GLASS_EXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``checkpoint(family)``: a Hugging Face folder with a tiny model."""
    return cache(lambda family: tiny_checkpoint(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[[str], Path]
) -> Callable[[str], Path]:
    """``exported(family)``: an ONNX artifact of a tiny model; not to be written to."""
    from glass_export.pipeline import export

    @cache
    def make(family: str) -> Path:
        output = tmp_path_factory.mktemp("artifacts") / family
        export(tiny_recipe(checkpoint(family)), output)
        return output

    return make
