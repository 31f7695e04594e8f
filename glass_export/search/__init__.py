"""Recipe search: which rule chooses a model's neurons best, measured on its own held-out text."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glass_export import package
from glass_export.errors import ArtifactError, RecipeError
from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import Chooser, Method, NullText
from glass_export.evaluate.priors import measure_prior
from glass_export.evaluate.sweep import steps_between
from glass_export.fusion import Priors
from glass_export.load import LoadedModel
from glass_export.log import logger
from glass_export.manifest import JudgedRule, SearchInfo
from glass_export.paths import cache_dir, is_kept
from glass_export.prior import Prior
from glass_export.recipe import CalibrationRecipe
from glass_export.schema import from_data, to_data
from glass_export.search import candidates
from glass_export.search.judge import Judge
from glass_export.search.texts import held_out_texts
from glass_export.selection import RULE_FIELDS, SelectionRecipe
from glass_export.sources.base import write_atomically
from glass_export.spec import FfnSite, NullStart

__all__ = ["Settled", "settle"]

VERSION = 1
"""Of what is searched; part of the cache's key."""


DENSE_COMPARED_AT = 0.5
"""Density at which rules are compared for a recipe whose own is 1."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The rule of an export, the prior that it uses, and how the rule was found (None: given)."""

    selection: SelectionRecipe
    prior: Prior
    search: SearchInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Outcome of a search, as it is cached."""

    selection: SelectionRecipe
    text: NullStart
    info: SearchInfo


def settle(
    loaded: LoadedModel,
    sites: list[FfnSite],
    calibration: CalibrationRecipe,
    selection: SelectionRecipe,
) -> Settled:
    """Find the rule if the recipe leaves it open, and measure the prior that the rule needs.

    Rules are compared at ``selection.density`` (DENSE_COMPARED_AT if that is 1) without refresh, by
    the KL of their predictions to the dense model's on text that the model wrote itself and no
    prior was measured on.

    Args:
        loaded: The model.
        sites: Its FFNs.
        calibration: How priors are measured.
        selection: What the recipe says; in mode ``auto`` the rule is searched.

    Raises:
        CalibrationError: the model writes no text, or none long enough, or its prior cannot be
            measured.
    """
    if selection.mode != "auto":
        return Settled(selection, measure_prior(loaded, sites, calibration, NullText()), None)
    density = selection.density if selection.density < 1 else DENSE_COMPARED_AT
    path = _cache_path(loaded, sites, calibration, density)
    found = _load(path)
    if found is None:
        found = _search(loaded, sites, calibration, replace(selection, density=density))
        _save(path, found)
    prior = measure_prior(loaded, sites, calibration, NullText(start=found.text))
    rule = {name: getattr(found.selection, name) for name in RULE_FIELDS}
    info = replace(found.info, seconds=0.0)  # which searches of earlier versions have kept
    return Settled(replace(selection, mode="auto", **rule), prior, info)


def _search(
    loaded: LoadedModel,
    sites: list[FfnSite],
    calibration: CalibrationRecipe,
    selection: SelectionRecipe,
) -> _Found:
    starts = _starts(loaded)
    routed = any(site.experts for site in sites)
    priors = {
        NullText(start=start): Priors(
            measure_prior(loaded, sites, calibration, NullText(start=start)).statistics,
            routed=routed,
        )
        for start in starts
    }
    began = time.monotonic()
    texts = held_out_texts(
        loaded, calibration, cache_dir() / "priors", templated="template" in starts
    )
    vocabulary = loaded.model.get_output_embeddings().weight.shape[0]
    model = EagerModel(loaded.model, sites, every=steps_between(vocabulary))
    judge = Judge(model, texts, Chooser(priors, None))
    judge.compare([*candidates.fusions(selection, starts)])
    judge.compare([*candidates.settings(judge.best)])
    # Experts are too many to measure each alone, and keeping one dense gains little.
    layer_kl = [] if routed else judge.layer_kl(judge.best)
    judge.compare([*candidates.dense_layers(judge.best, layer_kl)])
    info = SearchInfo(
        density=selection.density,
        texts=len(texts),
        steps=sum(text.steps for text in texts),
        layer_kl=tuple(round(value, 5) for value in layer_kl),
        rules=_ranking(judge),
    )
    best = judge.best
    logger.info(
        "selection: %s, KL %.3f, found in %.0f s",
        best.name,
        judge.results[best].value,
        time.monotonic() - began,
    )
    return _Found(selection=best.selection, text=best.null_text.start, info=info)


def _starts(loaded: LoadedModel) -> tuple[NullStart, ...]:
    """What text of the model can start from."""
    if not loaded.tokenizer.chat_template:
        return ("null",)
    try:
        package.template_prompt(loaded)
    except RecipeError as problem:
        logger.warning("recipe search: %s", problem)
        return ("null",)
    return ("null", "template", "mixed")


def _ranking(judge: Judge) -> tuple[JudgedRule, ...]:
    def row(method: Method) -> JudgedRule:
        mean = judge.results[method]
        return JudgedRule(
            rule=method.name,
            text=method.null_text.start,
            kl=round(mean.value, 5),
            error=round(mean.error, 5),
        )

    ordered: Sequence[Method] = sorted(judge.results, key=lambda m: judge.results[m].value)
    return tuple(row(method) for method in ordered)


def _cache_path(
    loaded: LoadedModel, sites: list[FfnSite], calibration: CalibrationRecipe, density: float
) -> Path:
    key: dict[str, Any] = {
        "version": VERSION,
        "model_sha256": loaded.source.sha256,
        "sites": [to_data(site) for site in sites],
        "calibration": to_data(calibration),
        "template": str(loaded.tokenizer.chat_template),
        "ends": loaded.eos_token_ids,
        "density": density,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "searches" / f"{name}.json"


def _load(path: Path) -> _Found | None:
    if not is_kept(path):
        return None
    try:
        data = json.loads(path.read_text("utf-8"))
        return from_data(_Found, data, error=ArtifactError, where=path.name)
    except (OSError, ValueError, ArtifactError) as problem:
        logger.warning("cached search: %s; ignored, it is made again", problem)
        return None


def _save(path: Path, found: _Found) -> None:
    try:
        write_atomically(path, json.dumps(to_data(found), indent=1) + "\n")
    except OSError as problem:
        logger.warning("cached search: cannot write %s (%s); going on without", path, problem)
