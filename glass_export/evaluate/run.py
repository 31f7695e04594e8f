"""Evaluation of a model itself, in float32, before any export.

Legend: L layers, F FFN width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from glass_export import package
from glass_export.calibrate.text import MIN_TOKENS
from glass_export.errors import EvaluationError
from glass_export.evaluate.continuations import answer_prompts
from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import Chooser, Method, fixed_refresh
from glass_export.evaluate.priors import measure_prior
from glass_export.evaluate.protocol import run_texts
from glass_export.evaluate.summary import Evaluation, evaluation, versions
from glass_export.evaluate.sweep import EvalSettings, Sweep
from glass_export.families import find_ffns
from glass_export.fusion import Priors
from glass_export.load import LoadedModel, load_model
from glass_export.nn.ffn import FfnLinears
from glass_export.paths import cache_dir
from glass_export.recipe import CalibrationRecipe, Recipe, SelectionRecipe
from glass_export.runtime.base import FloatArray
from glass_export.runtime.request import checked_threads
from glass_export.runtime.text import TextCodec
from glass_export.spec import FfnSite, NullStart

FindRule = Callable[[LoadedModel, list[FfnSite]], tuple[SelectionRecipe, NullStart]]

DENSE = Method("dense", SelectionRecipe(density=1.0))


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A loaded model, its FFNs and tokenizer, and the methods that can be compared on it."""

    loaded: LoadedModel
    sites: list[FfnSite]
    methods: tuple[Method, ...]
    chooser: Chooser
    codec: TextCodec


def evaluate_model(
    recipe: Recipe,
    settings: EvalSettings,
    *,
    find_auto: FindRule | None = None,
    threads: int | None = None,
) -> Evaluation:
    """How faithful the methods are to the dense model.

    Args:
        recipe: Names the model and says how its prior is measured.
        settings: What is compared, and on what.
        find_auto: Finds the rule that the method ``auto`` stands for, and the start of the text
            that its prior is measured on; None when there is no such rule.
        threads: CPU threads; None takes all that the process may use.

    Raises:
        EvaluationError: the settings do not fit together or the model, or no answer is long enough.
        GlassError: the model cannot be loaded, or its prior not be measured.
    """
    with torch_threads(checked_threads(threads)):
        opened = open_model(recipe, settings.sweep, settings.answers.seed, find_auto)
        model, methods = opened.loaded.model, opened.methods
        texts = answer_prompts(
            model,
            opened.codec,
            settings.prompts,
            settings.answers,
            eos_token_ids=opened.loaded.eos_token_ids,
            model_sha256=opened.loaded.source.sha256,
            cache=cache_dir() / "answers",
        )
        every = settings.every_of(model.get_output_embeddings().weight.shape[0])
        eager = EagerModel(model, opened.sites, every=every)
        traces = run_texts(eager, texts, [*methods, DENSE], opened.chooser)
    return evaluation(
        settings,
        methods,
        traces[:-1],
        texts,
        traces[-1],
        every,
        subject=recipe.model.name,
        where="the model itself, float32",
        versions=versions("torch", "transformers"),
    )


def open_model(
    recipe: Recipe, sweep: Sweep, seed: int, find_auto: FindRule | None = None
) -> OpenedModel:
    """Load a model, and find out what the methods need to choose neurons in it.

    Args:
        recipe: As of :func:`evaluate_model`, like ``find_auto``.
        sweep: What is compared; refused before the model is loaded if it is not possible.
        seed: Of random neurons.
        find_auto: None when there is no rule ``auto``.

    Raises:
        EvaluationError: the sweep does not fit together or the model.
        GlassError: the model cannot be loaded, or its prior not be measured.
    """
    density = recipe.selection.density
    guess = SelectionRecipe(mode="auto", refresh=recipe.selection.refresh) if find_auto else None
    methods = sweep.expand(density, guess)
    _check_possible(methods)
    loaded = load_model(recipe.model)
    sites = find_ffns(loaded.model)
    if find_auto and any(row.name == "auto" for row in methods):
        methods = sweep.expand(density, *find_auto(loaded, sites))
    chooser = _chooser(loaded, sites, recipe.calibration, methods, seed)
    return OpenedModel(loaded, sites, methods, chooser, _codec(loaded))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute on so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_possible(methods: Sequence[Method]) -> None:
    """Raise EvaluationError for what cannot be measured, before a model is loaded: a refresh that
    is no number of tokens, and a prior of too few.
    """
    for row in methods:
        fixed_refresh(row.selection)
    lengths = [row.null_text.tokens for row in methods if row.null_text.tokens is not None]
    if min(lengths, default=MIN_TOKENS) < MIN_TOKENS:
        raise EvaluationError(
            f"prior_tokens: got {min(lengths)}, expected at least {MIN_TOKENS}; fewer do not give "
            "a usable prior"
        )


def _chooser(
    loaded: LoadedModel,
    sites: list[FfnSite],
    recipe: CalibrationRecipe,
    methods: Sequence[Method],
    seed: int,
) -> Chooser:
    """Measure the priors and magnitudes that the methods need."""
    texts = dict.fromkeys(row.null_text for row in methods if row.uses_prior)
    if any(text.start != "null" for text in texts):
        package.template_prompt(loaded)  # a model without a template is told so at once
    routed = any(site.experts for site in sites)
    priors = {
        text: Priors(measure_prior(loaded, sites, recipe, text).statistics, routed=routed)
        for text in texts
    }
    by_weight = any(row.choice == "magnitude" for row in methods)
    return Chooser(priors, magnitudes(loaded.model, sites) if by_weight else None, seed)


def magnitudes(model: PreTrainedModel, sites: Sequence[FfnSite]) -> FloatArray:
    """Product of the norms of a neuron's gate (if there is one), up and down weights [L,F]."""
    rows = []
    for site in sites:
        gate, up, down, _ = FfnLinears(model, site).weights
        norm = up.detach().float().norm(dim=1) * down.detach().float().norm(dim=0)
        if gate is not None:
            norm = gate.detach().float().norm(dim=1) * norm
        rows.append(norm.cpu().numpy())
    return np.stack(rows).astype(np.float32)


def _codec(loaded: LoadedModel) -> TextCodec:
    """Text as an artifact of the model handles it."""
    with tempfile.TemporaryDirectory() as folder:
        package.write_tokenizer(loaded, Path(folder))
        config, template = (
            path if path.is_file() else None
            for path in (
                Path(folder) / "tokenizer_config.json",
                Path(folder) / "chat_template.jinja",
            )
        )
        return TextCodec.open(Path(folder) / "tokenizer.json", config, template)
