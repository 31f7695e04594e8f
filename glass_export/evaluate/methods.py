"""Ways to choose neurons that can be compared: rules of the paper and of this project, and bounds.

Neither torch nor transformers is needed. Legend: L layers, F FFN width, K kept neurons, N decode
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import EvaluationError
from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.runtime.base import FloatArray, IndexArray, LocalStatistics
from glass_export.schema import suggest
from glass_export.scoring import top_k
from glass_export.selection import RULE_FIELDS
from glass_export.spec import NullStart, layer_budgets

Choice = Literal["rule", "random", "magnitude", "oracle"]

RULES: dict[str, SelectionRecipe] = {
    "griffin": SelectionRecipe(mode="griffin"),
    "a-glass": SelectionRecipe(mode="paper-a"),
    "i-glass": SelectionRecipe(mode="paper-i"),
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
class NullText:
    """The text that a prior is measured on; ``tokens``: None for as many as the recipe says."""

    tokens: int | None = None
    start: NullStart = "null"

    def __post_init__(self) -> None:
        if self.start not in get_args(NullStart):
            raise EvaluationError(
                f"prior text: got {self.start!r}; {suggest(self.start, [*get_args(NullStart)])}"
            )

    @property
    def label(self) -> str:
        """What is not the default; may be empty."""
        start = "" if self.start == "null" else self.start
        tokens = "" if self.tokens is None else str(self.tokens)
        return " ".join(part for part in ("prior", start, tokens) if part) if start + tokens else ""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of an evaluation.

    Attributes:
        name: One of METHOD_NAMES.
        selection: The rule; gives density and refresh to bounds as well.
        choice: Whether the rule or a bound chooses.
        changed: Fields of the rule that are not the name's own.
        prompt_tokens: Scored tokens of the prompt that count, from its start; None is all.
        null_text: Which prior the rule uses.
    """

    name: str
    selection: SelectionRecipe
    choice: Choice = "rule"
    changed: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    null_text: NullText = NullText()

    @property
    def label(self) -> str:
        """Name, density, and all that is not the default of the name or of the driver."""
        selection = self.selection
        parts = [self.name]
        if selection.density != 1.0:
            parts.append(f"{selection.density:g}")
        parts += [f"{name} {getattr(selection, name)}" for name in self.changed]
        if selection.dense_start:
            parts.append(f"start {selection.dense_start}")
        if selection.refresh:
            parts.append(f"refresh {selection.refresh}")
        if self.prompt_tokens is not None:
            parts.append(f"prompt {self.prompt_tokens}")
        return " ".join([*parts, self.null_text.label]).rstrip()

    @property
    def uses_prompt(self) -> bool:
        """Whether the choice depends on scores of the prompt."""
        return self._chooses and self.selection.fusion != "global"

    @property
    def uses_prior(self) -> bool:
        """Whether the choice depends on the global prior."""
        return self._chooses and self.selection.fusion != "local"

    @property
    def _chooses(self) -> bool:
        return self.choice == "rule" and self.selection.density != 1.0


def method(name: str, auto: SelectionRecipe | None, **changes: Any) -> Method:
    """The method of a name, with fields of its selection changed.

    Args:
        name: One of METHOD_NAMES.
        auto: The rule that ``auto`` stands for; None when there is none.
        **changes: Fields of SelectionRecipe, such as density and refresh.

    Raises:
        EvaluationError: unknown name, or ``auto`` without a rule.
        RecipeError: a change is out of range.
    """
    if name == "dense":
        return Method(name, SelectionRecipe(density=1.0))
    if name in BOUNDS:
        return Method(name, replace(SelectionRecipe(), **changes), name)
    if name == "auto" and auto is None:
        raise EvaluationError(
            "methods: 'auto' is the rule that an export has chosen, and there is none here; give "
            "an artifact, or leave it out"
        )
    rule = auto if name == "auto" else RULES.get(name)
    if rule is None:
        raise EvaluationError(f"methods: got {name!r}; {suggest(name, list(METHOD_NAMES))}")
    changed = tuple(f for f in RULE_FIELDS if f in changes and changes[f] != getattr(rule, f))
    if changed:
        changes = {"mode": "fixed", **changes}
    return Method(name, replace(rule, **changes), changed=changed)


def first_sparse_step(selection: SelectionRecipe) -> int:
    """The first decode step that uses chosen neurons, at a density below 1.

    As the driver does it: a refresh computes the token at which it is due in its own dense batch.
    """
    return selection.dense_start + 1 if selection.dense_start else 0


def fixed_refresh(selection: SelectionRecipe) -> int:
    """Tokens between two refreshes, 0 for none.

    Raises:
        EvaluationError: it is "auto", which depends on the choices.
    """
    if isinstance(selection.refresh, str):
        raise EvaluationError(
            f"refresh: got {selection.refresh!r}, which is measured on artifacts only, where the "
            "driver decides while decoding; evaluate an artifact, or give numbers of tokens"
        )
    return selection.refresh


def sparse_spans(selection: SelectionRecipe, steps: int) -> Iterator[tuple[int, int]]:
    """Spans start..stop-1 of decode steps that use chosen neurons; the others are dense.

    Raises:
        EvaluationError: see :func:`fixed_refresh`.
    """
    refresh = fixed_refresh(selection)
    if selection.density == 1.0:
        return
    start = first_sparse_step(selection)
    while start < steps:
        stop = min(start + refresh, steps) if refresh else steps
        yield start, stop
        start = stop + 1


class Chooser:
    """Turns a method and what is known at a moment into neurons.

    Args:
        priors: Of the model, by the text that they were measured on.
        magnitudes: Score of every neuron by its weights alone [L,F]; None when unknown.
        seed: Of the random choice.
    """

    def __init__(
        self,
        priors: Priors | Mapping[NullText, Priors],
        magnitudes: FloatArray | None,
        seed: int = 0,
    ) -> None:
        self._priors = {NullText(): priors} if isinstance(priors, Priors) else dict(priors)
        self._magnitudes, self._seed = magnitudes, seed

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
        shape, selection = known.sq_sum.shape, method.selection
        kept = layer_budgets(selection.density, shape[1], shape[0], selection.dense_layers)
        match method.choice:
            case "rule":
                return select_neurons(known, self._prior(method), selection, kept)
            case "oracle":
                return top_k(whole().sq_sum, kept)
            case "random":
                random = np.random.default_rng([self._seed, text])
                return top_k(random.random(shape, np.float32), kept)
            case "magnitude":
                return top_k(self._by_weight(), kept)

    def check(self, methods: Iterable[Method]) -> None:
        """Raise EvaluationError when magnitudes are asked for and unknown."""
        if any(method.choice == "magnitude" for method in methods):
            self._by_weight()

    def _by_weight(self) -> FloatArray:
        if self._magnitudes is None:
            raise EvaluationError(
                "methods: 'magnitude' needs the model's weights, which an artifact does not give; "
                "leave it out, or evaluate the model itself"
            )
        return self._magnitudes

    def _prior(self, method: Method) -> Priors:
        return self._priors[method.null_text] if method.uses_prior else Priors({})


def overlap(neurons: IndexArray, activity: FloatArray) -> NDArray[np.float64]:
    """Share of chosen neurons that the oracle would choose too, by layer [L].

    Args:
        neurons: The choice [L,K]; rows that end in padding, -1, hold fewer.
        activity: What the oracle chooses by, sums of squares over prompt and continuation [L,F].
    """
    kept = (neurons >= 0).sum(1)
    best = top_k(activity, kept.tolist())
    common = [np.isin(row[:k], top).sum() for row, k, top in zip(neurons, kept, best, strict=True)]
    return np.asarray(np.array(common) / kept, np.float64)
