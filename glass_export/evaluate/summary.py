"""From traces to figures: means over prompts, standard errors, and ratios paired by prompt.

Every prompt counts once, whatever the length of its answer. Neither torch nor transformers is
needed. Legend: T texts, N' measured decode steps, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_export.evaluate.methods import Method
from glass_export.evaluate.sweep import EvalSettings
from glass_export.evaluate.texts import EvalText
from glass_export.evaluate.trace import Trace

WINDOW = 16
"""Decode steps of one point of the curve along the answer."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over prompts and its standard error; the error is 0 for a single prompt."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Values) -> Mean:
        """Shape: [T]."""
        count = len(values)
        error = values.std(ddof=1) / math.sqrt(count) if count > 1 else 0.0
        return cls(float(values.mean()), float(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """One row of the table.

    ``kl``: KL(dense || sparse) per token, nats; ``ratio``: of ``kl`` to the baseline's, its error
    paired by prompt; ``ppl``: perplexity of the dense model's own continuation; ``overlap``: share
    of the first chosen neurons that the oracle chose too, by layer; ``curve``: KL along the answer,
    one value for each WINDOW steps; ``domains``: KL by domain of the prompt; ``decode_tps``: decode
    speed, tokens a second, refreshes included, where it was measured.
    """

    label: str
    method: str
    density: float
    refresh: int | str
    dense_start: int
    kl: Mean
    ratio: Mean | None
    ppl: Mean
    overlap: tuple[float, ...]
    curve: tuple[float, ...]
    domains: dict[str, float]
    decode_tps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Outcome of an evaluation.

    ``subject``: name of the model or artifact; ``where``: what ran it, in words; ``prompts``: the
    set or file; ``texts`` and ``tokens``: answers and decode steps that were measured, in all;
    ``baseline``: the method that ratios refer to; ``dense_tps``: as ``decode_tps`` of a method;
    ``settings``: what else the figures depend on; ``versions``: of the software.
    """

    subject: str
    where: str
    prompts: str
    texts: int
    tokens: int
    dense_ppl: Mean
    baseline: str | None
    methods: tuple[MethodSummary, ...]
    dense_tps: float | None = None
    settings: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, of NumPy and of those of ``packages`` that go by that name."""
    found = {}
    for name in ("glass-export", "numpy", *packages):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def evaluation(
    settings: EvalSettings,
    methods: Sequence[Method],
    traces: Sequence[Sequence[Trace]],
    texts: Sequence[EvalText],
    dense: Sequence[Trace],
    every: int,
    *,
    speeds: Sequence[float] = (),
    **about: Any,
) -> Evaluation:
    """The outcome of T texts.

    Args:
        settings: What was asked for.
        methods: What was compared.
        traces: T traces for each method.
        texts: The T texts.
        dense: T traces of the dense model.
        every: Decode steps from one measured step to the next.
        speeds: Decode speed of each method and then of the dense model, tokens a second; empty
            where it was not measured.
        **about: Further fields of Evaluation.
    """
    nll = Mean.of(_per_text(dense, "nll"))
    baseline = settings.baseline if settings.baseline in settings.sweep.methods else None
    return Evaluation(
        prompts=settings.prompts_name,
        texts=len(texts),
        tokens=sum(len(trace.steps) for trace in dense),
        dense_ppl=_perplexity(nll),
        baseline=baseline,
        methods=summarise(methods, traces, texts, baseline, speeds[:-1] or None),
        dense_tps=speeds[-1] if speeds else None,
        settings=settings.described(every),
        **about,
    )


def summarise(
    methods: Sequence[Method],
    traces: Sequence[Sequence[Trace]],
    texts: Sequence[EvalText],
    baseline: str | None,
    speeds: Sequence[float | None] | None = None,
) -> tuple[MethodSummary, ...]:
    """One row for each method, in their order.

    Args:
        methods: What was compared.
        traces: T traces for each method.
        texts: The T texts.
        baseline: Name of the method that ratios refer to: its row of the same density, without
            refresh and dense start, if there is one; of the same prompt and prior, if it has them.
        speeds: Decode speed of each method, tokens a second.
    """
    kls = [_per_text(rows, "kl") for rows in traces]
    known = [None] * len(methods) if speeds is None else speeds
    return tuple(
        _row(method, rows, kl, _baseline(methods, kls, method, baseline), texts, speed)
        for method, rows, kl, speed in zip(methods, traces, kls, known, strict=True)
    )


def ratio(values: Values, base: Values) -> Mean:
    """Ratio of two means over the same prompts, its error by the delta method. Shape: [T], [T]."""
    quotient = values.mean() / base.mean()
    residual = Mean.of(values - quotient * base)
    return Mean(float(quotient), residual.error / float(base.mean()))


def _row(
    method: Method,
    rows: Sequence[Trace],
    kl: Values,
    base: Values | None,
    texts: Sequence[EvalText],
    speed: float | None,
) -> MethodSummary:
    nll = Mean.of(_per_text(rows, "nll"))
    domains = np.array([text.domain for text in texts])
    return MethodSummary(
        label=method.label,
        method=method.name,
        density=method.selection.density,
        refresh=method.selection.refresh,
        dense_start=method.selection.dense_start,
        kl=Mean.of(kl),
        ratio=None if base is None or not base.any() else ratio(kl, base),
        ppl=_perplexity(nll),
        overlap=tuple(np.mean([trace.overlap for trace in rows], axis=0).tolist()),
        curve=_curve(rows),
        domains={str(d): float(kl[domains == d].mean()) for d in dict.fromkeys(domains)},
        decode_tps=speed,
    )


def _perplexity(nll: Mean) -> Mean:
    """Its error by the delta method."""
    return Mean(math.exp(nll.value), math.exp(nll.value) * nll.error)


def _per_text(rows: Sequence[Trace], name: str) -> Values:
    return np.array([getattr(trace, name).mean() for trace in rows])


def _baseline(
    methods: Sequence[Method], kls: Sequence[Values], method: Method, name: str | None
) -> Values | None:
    found = [
        (other, kl)
        for other, kl in zip(methods, kls, strict=True)
        if other.name == name
        and other.selection.density == method.selection.density
        and not other.selection.refresh
        and not other.selection.dense_start
    ]
    alike = [
        kl
        for other, kl in found
        if (other.prompt_tokens, other.null_text) == (method.prompt_tokens, method.null_text)
    ]
    return next(iter([*alike, *(kl for _, kl in found)]), None)


def _curve(rows: Sequence[Trace]) -> tuple[float, ...]:
    steps = np.concatenate([trace.steps for trace in rows]) // WINDOW
    kl = np.concatenate([trace.kl for trace in rows])
    counts = np.bincount(steps)
    sums = np.bincount(steps, weights=kl)
    return tuple((sums[counts > 0] / counts[counts > 0]).tolist())
