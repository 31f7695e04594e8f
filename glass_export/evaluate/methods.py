"""Ways to choose neurons that can be compared: rules of the paper and of this project, and bounds.

Neither torch nor transformers is needed. Legend: L layers, F FFN width, K kept neurons, N decode
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from glass_export.errors import EvaluationError
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import FloatArray, IndexArray, LocalStatistics
from glass_export.schema import suggest
from glass_export.scoring import Priors, select_neurons, top_k
from glass_export.spec import kept_neurons

Choice = Literal["rule", "random", "magnitude", "oracle"]

RULES: dict[str, SelectionRecipe] = {
    "griffin": SelectionRecipe(fusion="local", local="griffin"),
    "a-glass": SelectionRecipe(fusion="borda", local="A", prior="A"),
    "i-glass": SelectionRecipe(fusion="borda", local="A", prior="I"),
    "squared": SelectionRecipe(fusion="borda", local="squared", prior="G"),
    "fisher": SelectionRecipe(fusion="borda", local="squared", prior="F"),
    "shrinkage": SelectionRecipe(fusion="shrinkage", local="squared", prior="G"),
    "local": SelectionRecipe(fusion="local", local="squared"),
    "global": SelectionRecipe(fusion="global", prior="G"),
}
"""Rules by name; GRIFFIN (Dong et al. 2024), A-GLASS and I-GLASS (arXiv 2508.14302) as published.
``global`` is a fixed mask."""

BOUNDS: tuple[Choice, ...] = ("random", "magnitude", "oracle")
"""``random`` neurons, those of the largest weights, and those most active in the continuation."""

METHOD_NAMES: tuple[str, ...] = ("dense", *RULES, "auto", *BOUNDS)


@dataclass(frozen=True, slots=True)
class Method:
    """One row of an evaluation. ``selection`` gives density and refresh to bounds as well."""

    name: str
    selection: SelectionRecipe
    choice: Choice = "rule"

    @property
    def label(self) -> str:
        """Name, density and what is not the default of the driver."""
        parts = [self.name]
        if self.selection.density != 1.0:
            parts.append(f"{self.selection.density:g}")
        if self.selection.dense_start:
            parts.append(f"start {self.selection.dense_start}")
        if self.selection.refresh:
            parts.append(f"refresh {self.selection.refresh}")
        return " ".join(parts)


def method(name: str, auto: SelectionRecipe | None, **changes: object) -> Method:
    """The method of a name, with fields of its selection changed.

    Args:
        name: One of METHOD_NAMES.
        auto: The rule that ``auto`` stands for; None when there is none.
        **changes: Fields of SelectionRecipe, such as density and refresh.

    Raises:
        EvaluationError: unknown name, or ``auto`` without a rule.
    """
    if name == "dense":
        return Method(name, SelectionRecipe(density=1.0))
    if name in BOUNDS:
        return Method(name, replace(SelectionRecipe(), **changes), name)  # type: ignore[arg-type]
    if name == "auto" and auto is None:
        raise EvaluationError(
            "methods: 'auto' is the rule that an export has chosen, and there is none here; give "
            "an artifact, or leave it out"
        )
    rule = auto if name == "auto" else RULES.get(name)
    if rule is None:
        raise EvaluationError(f"methods: got {name!r}; {suggest(name, list(METHOD_NAMES))}")
    return Method(name, replace(rule, **changes))  # type: ignore[arg-type]


def sparse_spans(selection: SelectionRecipe, steps: int) -> Iterator[tuple[int, int]]:
    """Spans start..stop-1 of decode steps that use chosen neurons; the others are dense.

    As the driver does it: a refresh computes the token at which it is due in its own dense batch.
    """
    if selection.density == 1.0:
        return
    start = selection.dense_start + 1 if selection.dense_start else 0
    while start < steps:
        stop = min(start + selection.refresh, steps) if selection.refresh else steps
        yield start, stop
        start = stop + 1


class Chooser:
    """Turns a method and what is known at a moment into neurons.

    Args:
        priors: Of the model.
        magnitudes: Score of every neuron by its weights alone [L,F]; None when unknown.
        seed: Of the random choice.
    """

    def __init__(self, priors: Priors, magnitudes: FloatArray | None, seed: int = 0) -> None:
        self._priors, self._magnitudes, self._seed = priors, magnitudes, seed

    def neurons(
        self,
        method: Method,
        known: LocalStatistics,
        whole: Callable[[], LocalStatistics],
        text: int,
    ) -> IndexArray:
        """The neurons int32 [L,K].

        Args:
            method: How to choose.
            known: Statistics of the tokens that a driver has seen densely by now.
            whole: Gives the statistics of prompt and continuation, for the oracle.
            text: Number of the text, so that each gets its own random choice.

        Raises:
            EvaluationError: magnitudes are asked for and unknown.
        """
        shape = known.sq_sum.shape
        kept = kept_neurons(method.selection.density, shape[1])
        match method.choice:
            case "rule":
                return select_neurons(known, self._priors, method.selection, kept)
            case "oracle":
                return top_k(whole().sq_sum, kept)
            case "random":
                random = np.random.default_rng([self._seed, text])
                return top_k(random.random(shape, np.float32), kept)
            case "magnitude":
                if self._magnitudes is None:
                    raise EvaluationError(
                        "methods: 'magnitude' needs the model's weights, which an artifact does "
                        "not give; leave it out, or evaluate the model: --model"
                    )
                return top_k(self._magnitudes, kept)
