"""What ``eval`` is asked about: an artifact, or a model as an export takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glass_export.evaluate.run import FindRule
    from glass_export.load import LoadedModel
    from glass_export.recipe import Recipe, SelectionRecipe
    from glass_export.spec import FfnSite, NullStart


def is_artifact(subject: str) -> bool:
    """Whether the subject is an artifact's directory."""
    from glass_export.manifest import MANIFEST_NAME

    return (Path(subject) / MANIFEST_NAME).exists()


def rule_finder(recipe: Recipe) -> FindRule:
    """Finds the rule that an export of the recipe would have."""

    def find(loaded: LoadedModel, sites: list[FfnSite]) -> tuple[SelectionRecipe, NullStart]:
        from glass_export.search import settle

        settled = settle(loaded, sites, recipe.calibration, recipe.selection)
        return settled.selection, settled.prior.text

    return find
