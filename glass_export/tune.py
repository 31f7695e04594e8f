"""Tuning: how faithful and how fast an artifact's settings are on this device, and which to take.

A setting is a density, a refresh and a dense start of the artifact's own rule. Neither torch nor
transformers is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glass_export.artifact import Artifact
from glass_export.bench.device import describe
from glass_export.errors import EvaluationError, TuningError
from glass_export.evaluate.artifact import evaluate_artifact
from glass_export.evaluate.methods import Method
from glass_export.evaluate.summary import Evaluation, Mean
from glass_export.evaluate.sweep import EvalSettings
from glass_export.runtime.request import checked_threads
from glass_export.selection import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A setting as it was measured.

    ``kl``: KL(dense || sparse) per token, nats; ``tps``: decoded tokens a second, refreshes
    included; ``speedup``: of ``tps`` to that of the dense form, which is the point of density 1.
    """

    density: float
    refresh: int | str
    dense_start: int
    kl: Mean
    tps: float
    speedup: float

    @property
    def label(self) -> str:
        """The setting in words."""
        if self.density == 1.0:
            return "dense"
        parts = [f"density {self.density:g}"]
        parts += [f"dense start {self.dense_start}"] if self.dense_start else []
        parts += [f"refresh {self.refresh}"] if self.refresh else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a setting has to fulfil: most KL per token (nats), and least speed-up over dense."""

    max_kl: float | None = None
    min_speedup: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("max_kl", self.max_kl), ("min_speedup", self.min_speedup)):
            if limit is not None and not 0 < limit < math.inf:
                raise EvaluationError(f"{name}: got {limit:g}, expected a number above 0")

    def __str__(self) -> str:
        parts = [] if self.max_kl is None else [f"a KL of at most {self.max_kl:g}"]
        if self.min_speedup is not None:
            parts.append(f"a speed-up of at least {self.min_speedup:g}")
        return " and ".join(parts)

    def met_by(self, point: Point) -> bool:
        """Whether the point fulfils all that is asked for."""
        return (self.max_kl is None or point.kl.value <= self.max_kl) and (
            self.min_speedup is None or point.speedup >= self.min_speedup
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Outcome of the measurements.

    ``device``: processor and threads; ``texts`` and ``tokens``: answers and decode steps that were
    compared; ``dense``: the dense form; ``points``: every setting, in the order of the sweep.
    """

    device: str
    texts: int
    tokens: int
    dense: Point
    points: tuple[Point, ...]


def measure(path: Path, settings: EvalSettings, *, threads: int | None = None) -> Tuning:
    """Measure all settings on this device, in turns on every text.

    Args:
        path: The artifact's directory.
        settings: The texts; the sweep is one of ``auto``, with densities below 1.
        threads: CPU threads of the engine; None lets it decide.

    Raises:
        EvaluationError: a density is not below 1, or no answer is long enough.
        GlassError: as :func:`.evaluate_artifact`.
    """
    sweep = settings.sweep
    if high := [density for density in sweep.density if density >= 1]:
        raise EvaluationError(
            f"densities: got {high[0]:g}, expected values below 1; leave it out, the dense form is "
            "measured anyway"
        )
    own = Artifact.open(path).manifest.selection
    methods = sweep.expand(own.density, own)
    outcome = evaluate_artifact(path, settings, threads=threads)
    return Tuning(
        device=_device(checked_threads(threads)),
        texts=outcome.texts,
        tokens=outcome.tokens,
        dense=_dense(outcome),
        points=tuple(_points(methods, outcome)),
    )


def _device(threads: int) -> str:
    return f"{describe()['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def _dense(outcome: Evaluation) -> Point:
    return Point(
        density=1.0,
        refresh=0,
        dense_start=0,
        kl=Mean(0.0, 0.0),
        tps=outcome.dense_tps or 0.0,
        speedup=1.0,
    )


def _points(methods: Sequence[Method], outcome: Evaluation) -> Iterable[Point]:
    dense = outcome.dense_tps or 0.0
    for method, row in zip(methods, outcome.methods, strict=True):
        tps = row.decode_tps or 0.0
        yield Point(
            density=method.selection.density,
            refresh=method.selection.refresh,
            dense_start=method.selection.dense_start,
            kl=row.kl,
            tps=tps,
            speedup=tps / dense if dense else 0.0,
        )


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """The Pareto front, the fastest first: points that no other beats in KL or speed without being
    worse in the other. Of equal points it has one.
    """
    found: list[Point] = []
    for point in sorted(points, key=_by_speed):
        if not found or point.kl.value < found[-1].kl.value:
            found.append(point)
    return tuple(found)


def pick(points: Sequence[Point], goal: Goal) -> Point:
    """The best of the points that meet the goal: the fastest, or with a least speed-up alone the
    one of smallest KL.

    Raises:
        TuningError: none meets it; the message names the closest.
    """
    fitting = [point for point in points if goal.met_by(point)]
    if not fitting:
        near = closest(points, goal)
        raise TuningError(
            f"no setting has {goal}; the closest is {near.label}, with KL {near.kl.value:.3f} and "
            f"speed-up {near.speedup:.2f}; ask for less, or try other densities, refreshes or "
            "dense starts"
        )
    return min(fitting, key=_by_kl if goal.max_kl is None else _by_speed)


def closest(points: Sequence[Point], goal: Goal) -> Point:
    """The point that misses the goal least: the KL counts first, then the speed."""
    if goal.max_kl is not None:
        within = [point for point in points if point.kl.value <= goal.max_kl]
        return min(within, key=_by_speed) if within else min(points, key=_by_kl)
    return min(points, key=_by_speed)


def as_profile(point: Point, device: str) -> Profile:
    """The point as a profile, with its figures."""
    return Profile(
        density=point.density,
        refresh=point.refresh,
        dense_start=point.dense_start,
        kl=round(point.kl.value, 5),
        speedup=round(point.speedup, 3),
        device=device,
    )


def _by_speed(point: Point) -> tuple[float, float]:
    return -point.speedup, point.kl.value


def _by_kl(point: Point) -> tuple[float, float]:
    return point.kl.value, -point.speedup
