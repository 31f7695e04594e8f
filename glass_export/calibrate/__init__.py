"""Calibration: the global prior, measured on text that the model writes itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from glass_export.calibrate.cache import CalibrationCache
from glass_export.calibrate.statistics import ORDER, Sums, measure
from glass_export.calibrate.team import Team, current, local_rank
from glass_export.calibrate.text import MIN_TOKENS, TextSettings, write_text
from glass_export.errors import CalibrationError, RecipeError, UnsupportedModelError
from glass_export.nn.streamed import is_streamed
from glass_export.prior import FORMAT_VERSION, Prior
from glass_export.recipe import CalibrationRecipe
from glass_export.schema import to_data
from glass_export.spec import FfnSite

__all__ = ["calibrate", "dismiss_helpers", "help_calibrate"]


def calibrate(
    model: PreTrainedModel,
    sites: list[FfnSite],
    recipe: CalibrationRecipe,
    *,
    prefix: tuple[int, ...],
    stop_ids: tuple[int, ...] = (),
    model_sha256: str,
    cache: Path | None,
) -> Prior:
    """Let the model write text from nothing and measure how it uses its FFN neurons on it.

    The model is left as it was: device, mode, gradients and modules. With equal arguments the
    result is equal bit for bit on one machine, also when a killed run is resumed.

    Args:
        model: A decoder language model.
        sites: Its FFNs, all of one width.
        recipe: How much text, how it is sampled, and where the model runs.
        prefix: Tokens every sequence starts from, at least one; they are not counted.
        stop_ids: Tokens that end a document (not a turn: text runs on past those).
        model_sha256: Identity of the weights, part of the cache's key.
        cache: Directory for finished and unfinished calibrations; None keeps nothing.

    Raises:
        CalibrationError: NaN or infinity, dead text, or too few tokens.
        RecipeError: the device does not exist.
        UnsupportedModelError: FFNs differ in width, or ``sites`` does not describe them.

    Source: GLASS (arXiv 2508.14302), global importance from null prompts.
    """
    device = _device(recipe.device, model)
    _check(model, sites, recipe, prefix)
    text = TextSettings(
        tokens=recipe.tokens,
        sequence_length=recipe.sequence_length,
        batch=recipe.batch,
        temperature=recipe.temperature,
        seed=recipe.seed,
        prefix=prefix,
        stop_ids=tuple(sorted(set(stop_ids))),
    )
    store = CalibrationCache(cache, _key(text, model, sites, device, model_sha256))
    if prior := store.load_prior():
        return prior
    team = current()
    team.share(text)  # which helpers wait for
    sums = _measured(model, sites, text, device, store, team)
    prior = _prior(sums, sites, recipe, model_sha256)
    store.save_prior(prior)
    return prior


def help_calibrate(model: PreTrainedModel, sites: list[FfnSite], device: str) -> None:
    """Take part in the calibrations of the team's leader, until it dismisses its helpers.

    Args:
        model: The leader's model.
        sites: Its FFNs.
        device: Where this process computes; see CalibrationRecipe.
    """
    team, place = current(), _device(device, model)
    nothing_kept = CalibrationCache(None, {})
    while (text := team.share(None)) is not None:
        _measured(model, sites, text, place, nothing_kept, team)


def dismiss_helpers() -> None:
    """Tell the team that no calibration follows."""
    current().share(None)


def _measured(
    model: PreTrainedModel,
    sites: list[FfnSite],
    text: TextSettings,
    device: torch.device,
    store: CalibrationCache,
    team: Team,
) -> Sums:
    with _prepared(model, device):
        sequences = write_text(model, text, store, team)
        return measure(model, sites, sequences, text.prefix, store, team)


def _prior(sums: Sums, sites: list[FfnSite], recipe: CalibrationRecipe, model_sha256: str) -> Prior:
    means = _means(sums, sites).astype(np.float32)
    if not np.isfinite(means).all():
        layer = int(np.argwhere(~np.isfinite(means))[0][1])
        raise CalibrationError(
            f"layer {layer}: a statistic is beyond float32; the weights may be damaged: "
            "fetch the model again"
        )
    return Prior(
        statistics=dict(zip(ORDER, means, strict=True)),
        tokens=sums.tokens,
        seed=recipe.seed,
        temperature=recipe.temperature,
        model_sha256=model_sha256,
    )


def _means(sums: Sums, sites: list[FfnSite]) -> NDArray[np.float64]:
    """Means over the tokens that went through each row [4,L,F].

    An expert that had none has the means of neurons that all do the same, so that a prompt which
    uses it decides alone: |u| = F^-1/2 and u^2 = 1/F, and r as u.
    """
    if not any(site.experts for site in sites):
        return sums.values / sums.tokens
    width = sites[0].d_ff
    equal = np.array([width**-0.5 if name in "AI" else 1 / width for name in ORDER])
    tokens = sums.routed
    return np.where(tokens > 0, sums.values / np.maximum(tokens, 1), equal[:, None, None])


def _key(
    text: TextSettings,
    model: PreTrainedModel,
    sites: list[FfnSite],
    device: torch.device,
    model_sha256: str,
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model_sha256": model_sha256,
        "text": to_data(text),
        "sites": [to_data(site) for site in sites],
        "device": device.type,
        "dtype": str(model.dtype),
    }


def _device(name: str, model: PreTrainedModel) -> torch.device:
    if is_streamed(model):
        if name not in ("auto", "cpu"):
            raise RecipeError(
                f"calibration.device: got {name!r}, but weights that do not fit in memory are "
                "streamed to the processor alone; use cpu"
            )
        return torch.device("cpu")
    if name == "auto":
        if not torch.cuda.is_available():
            return model.device
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RecipeError(f"calibration.device: got {name!r}, expected auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"calibration.device: got {name!r}, found {torch.cuda.device_count()} CUDA devices; "
            "use auto or cpu"
        )
    return device


def _check(
    model: PreTrainedModel,
    sites: list[FfnSite],
    recipe: CalibrationRecipe,
    prefix: tuple[int, ...],
) -> None:
    if recipe.tokens < MIN_TOKENS:
        raise CalibrationError(
            f"calibration.tokens: got {recipe.tokens}, expected at least {MIN_TOKENS}; "
            "4096 to 8192 give a stable prior"
        )
    vocabulary = model.get_input_embeddings().get_parameter("weight").shape[0]
    if not prefix or not all(0 <= token < vocabulary for token in prefix):
        raise CalibrationError(
            f"first tokens of the calibration text: got ids {list(prefix)}, expected at least one, "
            f"each 0 to {vocabulary - 1}; give the id of the model's begin-of-text token"
        )
    if not sites or len({site.d_ff for site in sites}) != 1:
        widths = sorted({site.d_ff for site in sites})
        raise UnsupportedModelError(
            f"FFN widths {widths}: expected one width for all layers, as a prior is [L,F]; "
            "this model is not supported"
        )


@contextmanager
def _prepared(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no parameter gradients, on ``device``; all undone when the block ends."""
    home = model.device
    training: list[nn.Module] = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        nn.Module.train(model, False).requires_grad_(False)
        nn.Module.to(model, device)
        yield
    finally:
        nn.Module.to(model, home)
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)
