"""Artifacts of tiny models, exported once a run by the real pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_models import CONTEXT, LAYERS, tiny_checkpoint, tiny_model, tiny_tokenizer

from glass_export.paths import cache_dir
from glass_export.recipe import Recipe, resolve

TINY = [
    "calibration.tokens=512",
    "calibration.sequence_length=32",
    "calibration.batch=8",
    f"export.max_length={CONTEXT}",
    "export.prefill_chunk=32",
    "verify.tokens=16",
    "selection.mode=fixed",
]


def tiny_recipe(checkpoint: Path, *overrides: str) -> Recipe:
    """A recipe that exports a tiny checkpoint in seconds."""
    return resolve(str(checkpoint), [*TINY, *overrides])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's cache out of the tests, but for native builds and what they are made of."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("cache")
    for name in ("native", "tokenizers_cpp", "llama_cpp", "libsodium"):
        kept = cache_dir() / name
        kept.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(kept.resolve())
    patch.setenv("GLASS_EXPORT_CACHE", str(folder))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def recipe_of() -> Callable[..., Recipe]:
    """:func:`tiny_recipe`, for tests that export by themselves."""
    return tiny_recipe


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``checkpoint(family, layers=LAYERS)``: a Hugging Face folder with a tiny model."""

    @cache
    def make(family: str, layers: int = LAYERS) -> Path:
        return tiny_checkpoint(family, tmp_path_factory.mktemp(family), layers)

    return make


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama in several bfloat16 files; not to be written to."""
    folder = tmp_path_factory.mktemp("sharded")
    tiny_model("llama").bfloat16().save_pretrained(folder, max_shard_size="100KB")
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[..., Path]
) -> Callable[..., Path]:
    """``exported(family, target="onnx", *overrides, layers=LAYERS)``: an artifact of a tiny model;
    not to be written to.
    """
    from glass_export.pipeline import export

    @cache
    def make(family: str, target: str = "onnx", *overrides: str, layers: int = LAYERS) -> Path:
        output, folder = tmp_path_factory.mktemp("artifacts") / family, checkpoint(family, layers)
        export(tiny_recipe(folder, f"target.name={target}", *overrides), output)
        return output

    return make
