"""Rules that a search compares, stage by stage: statistics and fusions, then their settings, then
layers that keep all neurons.

Neither torch nor transformers is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from glass_export.evaluate.methods import RULES, Method, NullText
from glass_export.selection import SENSITIVITIES, SelectionRecipe
from glass_export.spec import NullStart

MOST_DENSE = 3
"""Most layers that a search keeps dense."""

_TAUS = (32.0, 128.0)
_LAMBDAS = (0.35, 0.65)


def fusions(base: SelectionRecipe, starts: Sequence[NullStart]) -> Iterator[Method]:
    """Both forms of the paper, and the squared statistics with the priors of every text."""
    for name in ("a-glass", "i-glass"):
        yield _method(base, RULES[name], "null")
    for start in starts:
        for name in ("squared", "fisher"):
            yield _method(base, RULES[name], start)
        for tau in _TAUS:
            yield _method(base, replace(RULES["shrinkage"], tau=tau), start)


def settings(best: Method) -> Iterator[Method]:
    """Neighbours of the best rule so far."""
    rule = best.selection
    if rule.fusion == "borda":
        for lam in _LAMBDAS:
            yield _changed(best, lam=lam)
        return
    for tau in (rule.tau / 2, rule.tau * 2):
        if tau not in _TAUS:
            yield _changed(best, tau=tau)
    for power in SENSITIVITIES:
        if 0 < power < 1:
            yield _changed(best, sensitivity=power)


def dense_layers(best: Method, layer_kl: Sequence[float]) -> Iterator[Method]:
    """The layers whose sparsity costs most, kept dense: the first one, two, three of them.

    Args:
        best: The best rule so far.
        layer_kl: KL with one layer sparse alone, of every layer.
    """
    order = sorted(range(len(layer_kl)), key=lambda layer: -layer_kl[layer])
    for count in range(1, min(MOST_DENSE, len(order) - 1) + 1):
        yield _changed(best, dense_layers=tuple(order[:count]))


def _method(base: SelectionRecipe, rule: SelectionRecipe, start: NullStart) -> Method:
    keep: dict[str, Any] = {
        "density": base.density,
        "refresh": 0,
        "dense_start": 0,
        "mode": "fixed",
    }
    return _labelled(replace(rule, **keep), start)


def _changed(method: Method, **changes: Any) -> Method:
    rule = replace(method.selection, **changes)
    return _labelled(rule, method.null_text.start)


def _labelled(rule: SelectionRecipe, start: NullStart) -> Method:
    return Method(describe(rule), rule, null_text=NullText(start=start))


def describe(rule: SelectionRecipe) -> str:
    """A rule in short: ``shrinkage squared G tau 32``."""
    parts: list[str] = [rule.fusion, *([] if rule.fusion == "global" else [rule.local])]
    parts += [] if rule.fusion == "local" else [rule.prior]
    parts += [f"lam {rule.lam:g}"] if rule.fusion == "borda" else []
    parts += [f"tau {rule.tau:g}"] if rule.fusion == "shrinkage" else []
    parts += [f"sensitivity {rule.sensitivity:g}"] if rule.sensitivity else []
    parts += [f"dense {','.join(map(str, rule.dense_layers))}"] if rule.dense_layers else []
    return " ".join(parts)
