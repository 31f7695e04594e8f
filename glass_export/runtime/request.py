"""Checks of what a caller asks for: every function returns a clean value or raises.

Legend: L layers, F FFN width, K kept neurons, S prompt tokens.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike

from glass_export.errors import GenerationError, RecipeError
from glass_export.runtime.base import FloatArray, IndexArray, TokenArray
from glass_export.schema import suggest
from glass_export.selection import (
    PRESETS,
    RULE_FIELDS,
    RULES,
    Fusion,
    LocalForm,
    LocalTokens,
    Mode,
    SelectionRecipe,
)
from glass_export.spec import STATISTICS, ModelDims, Statistic, kept_neurons, layer_budgets


class SelectionArgs(TypedDict, total=False):
    """How neurons are chosen; see :class:`.SelectionRecipe`. None means the default."""

    density: float | None
    mode: Mode | None
    fusion: Fusion | None
    local: LocalForm | None
    local_tokens: LocalTokens | None
    prior: Statistic | None
    lam: float | None
    tau: float | None
    sensitivity: float | None
    dense_layers: Sequence[int] | None
    refresh: int | str | None
    dense_start: int | None


_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": get_args(Mode),
    "fusion": get_args(Fusion),
    "local": get_args(LocalForm),
    "local_tokens": get_args(LocalTokens),
    "prior": STATISTICS,
}


def checked_selection(
    defaults: SelectionRecipe, dims: ModelDims, **wanted: Unpack[SelectionArgs]
) -> SelectionRecipe:
    """The artifact's defaults with what the caller wants instead; None means the default.

    A mode replaces the whole rule, ``auto`` by the artifact's own. A field of the rule replaces
    that field of the artifact's rule and makes the mode ``fixed``. The sensitivity belongs to
    shrinkage: with another fusion it is 0 unless it is given, too.

    Raises:
        GenerationError: density, lam, tau, sensitivity, refresh or dense_start out of range; mode,
            fusion, local, local_tokens or prior unknown; dense_layers not layers of the model, or
            given twice; a field that is not that of the preset given as mode.
        TypeError: a name that is none of these.
    """
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    _check_values(given)
    if "dense_layers" in given:
        given["dense_layers"] = tuple(given["dense_layers"])
    mode, changes_rule = given.pop("mode", "auto"), not given.keys().isdisjoint(RULE_FIELDS)
    if mode in PRESETS:
        given = {"mode": mode, **asdict(RULES[mode]), **given}
    elif changes_rule or mode == "fixed":
        given["mode"] = "fixed"
        if given.get("fusion", "shrinkage") != "shrinkage":
            given.setdefault("sensitivity", 0.0)
    try:
        selection = replace(defaults, **given)
    except RecipeError as problem:
        raise GenerationError(str(problem).removeprefix("selection.")) from problem
    layer_budgets(selection.density, dims.d_ff, dims.rows, selection.dense_layers)
    return selection


def _check_values(given: dict[str, Any]) -> None:
    """Types and ranges of what a caller wants, each value by itself."""
    for name, known in _CHOICES.items():
        if name in given and given[name] not in known:
            near = suggest(str(given[name]), list(known))
            raise GenerationError(f"{name}: got {given[name]!r}; {near}")
    for name, most in (("lam", 1.0), ("tau", math.inf), ("sensitivity", 1.0)):
        value = given.get(name, 0.0)
        if not (_is_number(value) and 0 <= value <= most and math.isfinite(value)):
            limit = "a number of tokens, 0 or more" if name == "tau" else "a number from 0 to 1"
            raise GenerationError(f"{name}: got {value!r}, expected {limit}")
    checked_count("dense_start", given.get("dense_start", 0), least=0)
    layers = given.get("dense_layers", ())
    if not isinstance(layers, (list, tuple)):
        raise GenerationError(f"dense_layers: got {layers!r}, expected a list of layers")
    for layer in layers:
        checked_count("dense_layers", layer, least=0)
    if "density" in given:
        kept_neurons(given["density"], 1)


def checked_prompt(
    token_ids: ArrayLike, mask: ArrayLike | None, dims: ModelDims, max_length: int
) -> tuple[TokenArray, FloatArray]:
    """Token ids and score weights of a prompt; without a mask all tokens count.

    Shape: [S], [S].

    Raises:
        GenerationError: empty or too long, an id outside the vocabulary, a mask that does not fit.
    """
    tokens = np.asarray(token_ids)
    if tokens.size == 0:
        raise GenerationError("prompt: got no tokens, expected at least one")
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise GenerationError(
            f"prompt: got {tokens.dtype} of shape {list(tokens.shape)}, "
            "expected a list of token ids"
        )
    if tokens.size > max_length:
        raise GenerationError(
            f"prompt: got {tokens.size} tokens, the context holds {max_length}; shorten the "
            "prompt, or export the model again with a larger export.max_length"
        )
    outside = (tokens < 0) | (tokens >= dims.vocab_size)
    if outside.any():
        raise GenerationError(
            f"prompt: token id {tokens[outside][0]} is not in the vocabulary, "
            f"expected 0 to {dims.vocab_size - 1}"
        )
    weights = np.ones(tokens.size, np.float32) if mask is None else np.asarray(mask, np.float32)
    if weights.shape != tokens.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise GenerationError(
            f"mask: got shape {list(weights.shape)}, expected one weight of 0 or more for each of "
            f"the {tokens.size} tokens"
        )
    return tokens.astype(np.int64), np.ascontiguousarray(weights)


def checked_neurons(indices: ArrayLike, dims: ModelDims) -> IndexArray:
    """Neuron indices as int32 [L,K]; rows of fewer neurons end in padding, -1.

    Raises:
        GenerationError: not whole numbers [L,K] with 1 <= K <= F; a row that is not one or more
            neurons in 0..F-1, ascending without repetition, and then nothing but padding.
    """
    array = np.asarray(indices)
    fits = array.ndim == 2 and array.shape[0] == dims.rows and 1 <= array.shape[1] <= dims.d_ff
    if not fits or array.dtype.kind not in "iu":
        raise GenerationError(
            f"neurons: got {array.dtype} of shape {list(array.shape)}, expected whole numbers of "
            f"shape [{dims.rows}, K] with K from 1 to {dims.d_ff}"
        )
    if array.min() < -1 or array.max() >= dims.d_ff:
        raise GenerationError(
            f"neurons: got indices from {array.min()} to {array.max()}, "
            f"expected 0 to {dims.d_ff - 1}, or -1 as padding at the end of a row"
        )
    padding = array == -1
    misplaced = padding[:, 0] | (padding[:, :-1] & ~padding[:, 1:]).any(axis=1)
    if misplaced.any():
        raise GenerationError(
            f"neurons: row {np.argmax(misplaced)} has padding (-1) before an index, or nothing "
            "else; only the end of a row may be padding, behind at least one index"
        )
    if not ((array[:, 1:] > array[:, :-1]) | padding[:, 1:]).all():
        raise GenerationError(
            "neurons: a row is not ascending or repeats an index; sort each row and make it unique"
        )
    return np.ascontiguousarray(array, np.int32)


def checked_context(wanted: int | None, most: int) -> int:
    """Context length in tokens; None means ``most``, what the artifact was exported with.

    Raises:
        GenerationError: not 1 to ``most``.
    """
    if wanted is None:
        return most
    if not 1 <= wanted <= most:
        raise GenerationError(
            f"max_length: got {wanted}, expected 1 to {most}, the context this artifact was "
            "exported with; export with a larger export.max_length for more"
        )
    return wanted


def checked_threads(wanted: int | None) -> int:
    """Threads of an engine; None means all processors that this process may use.

    Raises:
        GenerationError: below 1.
    """
    if wanted is not None and wanted < 1:
        raise GenerationError(f"threads: got {wanted}, expected at least 1")
    if wanted is not None:
        return wanted
    if sys.platform == "linux":  # not every system tells a process its own
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_stop(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple. Raises GenerationError when one is empty or not a string."""
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(item, str) and item for item in strings):
        raise GenerationError(f"stop: got {stop!r}, expected strings that are not empty")
    return strings


def checked_count(name: str, value: int, least: int = 1) -> int:
    """A whole number of at least ``least``. Raises GenerationError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise GenerationError(f"{name}: got {value!r}, expected a whole number of at least {least}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
