"""Priors of a loaded model by the text that they are measured on."""

from __future__ import annotations

from dataclasses import replace

from glass_export import package
from glass_export.calibrate import calibrate
from glass_export.calibrate.text import MIN_TOKENS
from glass_export.evaluate.methods import NullText
from glass_export.load import LoadedModel
from glass_export.paths import cache_dir
from glass_export.prior import Prior, mixed
from glass_export.recipe import CalibrationRecipe
from glass_export.spec import FfnSite


def measure_prior(
    loaded: LoadedModel, sites: list[FfnSite], recipe: CalibrationRecipe, text: NullText
) -> Prior:
    """The prior of a text; what was measured before comes from the cache.

    Without a number of tokens, text from nothing has as many as the recipe says, and text from the
    chat template half as many. ``mixed`` is the mean of both.

    Raises:
        RecipeError: text from the template of a model without one.
        CalibrationError: see :func:`.calibrate.calibrate`.
    """
    if text.start == "mixed":
        parts = (replace(text, start=start) for start in ("null", "template"))
        return mixed(*(measure_prior(loaded, sites, recipe, part) for part in parts))
    templated = text.start == "template"
    usual = max(MIN_TOKENS, recipe.tokens // 2) if templated else recipe.tokens
    start = package.template_prompt(loaded) if templated else package.null_prompt(loaded)
    prior = calibrate(
        loaded.model,
        sites,
        replace(recipe, tokens=text.tokens or usual),
        **start,
        model_sha256=loaded.source.sha256,
        cache=cache_dir() / "priors",
    )
    return replace(prior, text=text.start)
