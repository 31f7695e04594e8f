"""How neurons are chosen: the rule and its presets, how many are kept, when they are chosen anew.

Legend: A, I, G and F are the statistics of the global prior; u is the normalised FFN activation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from glass_export.errors import RecipeError
from glass_export.schema import suggest
from glass_export.spec import Statistic

Fusion = Literal["borda", "shrinkage", "local", "global"]
LocalForm = Literal["A", "griffin", "squared"]
LocalTokens = Literal["user", "all"]
Mode = Literal["auto", "fixed", "paper-a", "paper-i", "griffin"]

SENSITIVITIES = (0.0, 0.25, 0.5, 1.0)
"""Powers of F / G that are made of exact square roots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the score of a neuron is made of; the fields are those of :class:`SelectionRecipe`."""

    fusion: Fusion = "borda"
    local: LocalForm = "A"
    local_tokens: LocalTokens = "user"
    prior: Statistic = "A"
    lam: float = 0.5
    tau: float = 128.0
    sensitivity: float = 0.0
    dense_layers: tuple[int, ...] = ()


RULE_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Rule))

RULES: Mapping[Mode, Rule] = MappingProxyType(
    {
        "auto": Rule(fusion="shrinkage", local="squared", prior="G", tau=64.0),
        "fixed": Rule(),
        "paper-a": Rule(fusion="borda", local="A", local_tokens="all", prior="A", lam=0.5),
        "paper-i": Rule(fusion="borda", local="A", local_tokens="all", prior="I", lam=0.5),
        "griffin": Rule(fusion="local", local="griffin", local_tokens="all"),
    }
)
"""The rule of every mode: of ``auto`` until an export has searched for one, of ``fixed`` as far as
no field says otherwise.

Source: A-GLASS and I-GLASS, arXiv 2508.14302; GRIFFIN, Dong et al. 2024.
"""

PRESETS: tuple[Mode, ...] = ("paper-a", "paper-i", "griffin")
"""Modes whose rule is as published: no field may say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRecipe:
    """Defaults of the run-time neuron choice; every one can be overridden per request.

    Every field has a value once the object is made; what is left out comes from ``mode``.

    Attributes:
        density: Share of the FFN neurons that are kept, above 0 to 1.
        mode: Where the rule comes from. ``auto``: the export searches for one; ``fixed``: the
            fields below; one of PRESETS: the rule of that name. Left out, it is ``fixed`` when a
            field of the rule is given and ``auto`` otherwise.
        fusion: How the prompt's scores and the prior are combined; see :mod:`.scoring`.
        local: Score of the prompt's neurons.
        local_tokens: Prompt tokens that it covers: the ``user``'s own words (of a plain string all
            but special tokens), or ``all``, special tokens and template included.
        prior: Statistic of the global prior.
        lam: Weight of the prior in ``borda``, 0 to 1.
        tau: Weight of the prior in ``shrinkage``, in tokens.
        sensitivity: One of SENSITIVITIES. ``shrinkage`` multiplies a neuron's score by (F / G) to
            this power. F / G is the squared effect on the loss per squared activation, so at 1 the
            score estimates what leaving the neuron out does to the loss: Fisher information as a
            product of activity, which the prompt shows, and sensitivity, which only text that the
            model wrote itself shows.
        dense_layers: Layers that keep all neurons, the most important first, at the expense of the
            others; see :func:`.spec.layer_budgets`.
        refresh: Tokens decoded between two refreshes of the choice, 0 for none; may be given as
            "off". "auto": refreshes end once one changes little; see :class:`.UntilSettled`.
        dense_start: First tokens of an answer that are decoded with all neurons. Neither this nor
            ``refresh`` matters at density 1.
    """

    density: float = 0.5
    mode: Mode = None  # type: ignore[assignment]  # this and the rule: concrete after __post_init__
    fusion: Fusion = None  # type: ignore[assignment]
    local: LocalForm = None  # type: ignore[assignment]
    local_tokens: LocalTokens = None  # type: ignore[assignment]
    prior: Statistic = None  # type: ignore[assignment]
    lam: float = None  # type: ignore[assignment]
    tau: float = None  # type: ignore[assignment]
    sensitivity: float = None  # type: ignore[assignment]
    dense_layers: tuple[int, ...] = None  # type: ignore[assignment]
    refresh: int | str = 0
    dense_start: int = 0

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in RULE_FIELDS}
        given = {name: value for name, value in values.items() if value is not None}
        if self.mode is None:
            object.__setattr__(self, "mode", "fixed" if given else "auto")
        if self.mode not in RULES:
            raise RecipeError(f"selection.mode: got {self.mode!r}; {suggest(self.mode, [*RULES])}")
        for name in RULE_FIELDS:
            if name not in given:
                object.__setattr__(self, name, getattr(RULES[self.mode], name))
        if self.mode in PRESETS:
            _require_rule(self.mode, given)
        require_share("selection.density", self.density)
        object.__setattr__(self, "refresh", clean_refresh("selection.refresh", self.refresh))
        require_least("selection.dense_start", self.dense_start, 0)
        self._check_rule()

    def _check_rule(self) -> None:
        if not 0 <= self.lam <= 1:
            raise RecipeError(f"selection.lam: got {self.lam}, expected 0 to 1")
        if not 0 <= self.tau < math.inf:
            raise RecipeError(f"selection.tau: got {self.tau}, expected 0 or more (tokens)")
        if self.sensitivity not in SENSITIVITIES:
            known = ", ".join(f"{power:g}" for power in SENSITIVITIES)
            raise RecipeError(
                f"selection.sensitivity: got {self.sensitivity!r}, expected one of {known}"
            )
        if self.sensitivity > 0 and self.fusion != "shrinkage":
            raise RecipeError(
                f"selection.sensitivity: got {self.sensitivity} with fusion {self.fusion!r}, "
                "expected 0; use fusion 'shrinkage', or leave the sensitivity out"
            )
        layers = self.dense_layers
        if min(layers, default=0) < 0 or len(set(layers)) < len(layers):
            raise RecipeError(
                f"selection.dense_layers: got {list(layers)}, expected numbers of layers, each "
                "0 or more and given once"
            )


def _require_rule(mode: Mode, given: Mapping[str, Any]) -> None:
    """Raise RecipeError when a given field is not that of the preset."""
    for name, value in given.items():
        if value != (wanted := getattr(RULES[mode], name)):
            raise RecipeError(
                f"selection.{name}: got {value!r} with mode {mode!r}, whose {name} is {wanted!r}; "
                f"leave {name} out, or use mode 'fixed'"
            )


def require_least(name: str, value: int, least: int) -> None:
    """Raise RecipeError when the value of the key ``name`` is below ``least``."""
    if value < least:
        raise RecipeError(f"{name}: got {value}, expected at least {least}")


def clean_refresh(name: str, value: int | str) -> int | str:
    """The refresh that the key ``name`` asks for: a number of tokens, 0 for "off", or "auto".

    Raises:
        RecipeError: it is neither.
    """
    if value == "off":
        return 0
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_count and value != "auto":
        raise RecipeError(
            f"{name}: got {value!r}, expected a whole number of at least 0 (tokens), 'auto' or "
            "'off'"
        )
    return value


def require_share(name: str, value: float) -> None:
    """Raise RecipeError when the value of the key ``name`` is not above 0 and at most 1."""
    if not 0 < value <= 1:
        raise RecipeError(f"{name}: got {value}, expected above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named trade of fidelity for speed: values that stand for an artifact's defaults.

    Attributes:
        density: As in :class:`SelectionRecipe`, like ``refresh`` and ``dense_start``.
        refresh: Tokens decoded between two refreshes, 0 for none, or "auto".
        dense_start: First tokens of an answer that are decoded with all neurons.
        kl: KL(dense || sparse) per token in nats, if it was measured.
        speedup: Decode speed relative to the dense form, if it was measured.
        device: Where that was; speed differs between devices.
    """

    density: float
    refresh: int | str = 0
    dense_start: int = 0
    kl: float | None = None
    speedup: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        require_share("profile.density", self.density)
        object.__setattr__(self, "refresh", clean_refresh("profile.refresh", self.refresh))
        require_least("profile.dense_start", self.dense_start, 0)


MOST_FAITHFUL = 0.75
"""Highest density that a default profile asks for, unless the recipe itself asks for more."""


def default_profiles(selection: SelectionRecipe) -> dict[str, Profile]:
    """The profiles that every artifact has, from the defaults of its selection."""
    density = selection.density
    more = max(density, min((1 + density) / 2, MOST_FAITHFUL))
    return {
        "fast": Profile(density=density),
        "balanced": Profile(density=density, refresh=64, dense_start=16),
        "faithful": Profile(density=more, refresh=32, dense_start=16),
    }
