"""A tiny chat model that rules are searched for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export.families import find_ffns
from glass_export.load import LoadedModel, load_model
from glass_export.recipe import CalibrationRecipe
from glass_export.spec import FfnSite


@pytest.fixture(scope="session")
def loaded(recipe_of: Callable[..., object], checkpoint: Callable[..., Path]) -> LoadedModel:
    """The model; not to be changed."""
    return load_model(recipe_of(checkpoint("llama")).model)


@pytest.fixture(scope="session")
def sites(loaded: LoadedModel) -> list[FfnSite]:
    return find_ffns(loaded.model)


@pytest.fixture(scope="session")
def calibration() -> CalibrationRecipe:
    return CalibrationRecipe(tokens=512, sequence_length=32, batch=8, device="cpu")
