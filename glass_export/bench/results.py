"""From turns to figures: medians, spreads, ratios, and the JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from glass_export.bench import device
from glass_export.bench.contestants import Contestant, Settings
from glass_export.bench.outcome import Case, Figures, Outcome

SCHEMA_VERSION = 1
TIMES = ("ttft_ms", "prefill_tps", "decode_tps", "fusion_ms", "select_ms")


@dataclass(frozen=True, slots=True)
class Run:
    """Figures of one case.

    Attributes:
        case: What was measured.
        figures: Medians of the turns, memory, and quality.
        spread: Least and greatest of the turns, by figure.
        speedup: Decode speed against the same artifact's at density 1; None when that was not
            measured, or for a peer.
        ratios: Of an artifact: peer -> figure -> this run's median against the peer's. Speeds are
            ours through theirs, ``ttft`` theirs through ours, so above 1 this run is better.
    """

    case: Case
    figures: Figures
    spread: dict[str, tuple[float, float]]
    speedup: float | None
    ratios: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Results:
    """A benchmark's runs, those of artifacts and those of peers."""

    contestants: tuple[Contestant, ...]
    settings: Settings
    reference: str | None
    artifact_runs: tuple[Run, ...]
    peer_runs: tuple[Run, ...]
    engines: dict[str, str]
    failures: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Everything as JSON data; ``artifact`` and ``ratios`` are of the first artifact.

        ``ratios``: peer -> figure -> density -> ratio, with the first number of threads and the
        first context; every run has its own besides.
        """
        artifacts = [c for c in self.contestants if c.is_artifact]
        return {
            "schema_version": SCHEMA_VERSION,
            "device": device.describe(),
            "artifact": artifacts[0].name,
            "artifacts": [self._about(c) for c in artifacts],
            "reference": self.reference,
            "repeats": self.settings.repeats,
            "tokens": self.settings.tokens,
            "runs": [_plain(run, "artifact") for run in self.artifact_runs],
            "peers": [self._about(c) for c in self.contestants if not c.is_artifact],
            "peer_runs": [_plain(run, "peer") for run in self.peer_runs],
            "ratios": self._ratios(artifacts[0].name),
            "failures": self.failures,
        }

    def _about(self, contestant: Contestant) -> dict[str, Any]:
        engine = self.engines.get(contestant.name)
        return {"name": contestant.name, "engine": engine, **contestant.about}

    def _ratios(self, name: str) -> dict[str, dict[str, dict[str, float]]]:
        threads, context = self.settings.threads[0], self.settings.contexts[0]
        found: dict[str, dict[str, dict[str, float]]] = {}
        for run in self.artifact_runs:
            case = run.case
            if (case.name, case.threads, case.context) == (name, threads, context):
                for peer, ratios in run.ratios.items():
                    for figure, value in ratios.items():
                        by_density = found.setdefault(peer, {}).setdefault(figure, {})
                        by_density[f"{case.density:g}"] = value
        return found


def summarise(
    contestants: Sequence[Contestant],
    settings: Settings,
    outcome: Outcome,
    reference: Contestant | None = None,
) -> Results:
    """Medians and ratios of all contestants that did not fail."""
    figures = {
        case: _figures(case, samples, outcome)
        for case, samples in outcome.samples.items()
        if case.name not in outcome.failures
    }
    order = {c.name: index for index, c in enumerate(contestants)}
    artifacts = {c.name for c in contestants if c.is_artifact}
    cases = sorted(
        figures, key=lambda c: (order[c.name], c.threads, c.context, -(c.density or 0.0))
    )
    runs = [_run(case, figures, outcome.samples[case], artifacts) for case in cases]
    return Results(
        contestants=tuple(contestants),
        settings=settings,
        reference=reference.name if reference else None,
        artifact_runs=tuple(run for run in runs if run.case.name in artifacts),
        peer_runs=tuple(run for run in runs if run.case.name not in artifacts),
        engines=outcome.engines,
        failures=outcome.failures,
    )


def _figures(case: Case, samples: Iterable[Figures], outcome: Outcome) -> Figures:
    turns = list(samples)
    medians: Figures = {}
    for name in TIMES:
        values = _values(turns, name)
        medians[name] = median(values) if values else None
    quality = outcome.quality.get((case.name, case.density), {"kl": None, "ppl": None})
    memory = outcome.memory.get(case, {"peak_rss_mb": None, "anon_mb": None})
    return {**medians, **memory, **quality}


def _values(turns: Iterable[Figures], name: str) -> list[float]:
    return [value for turn in turns if (value := turn.get(name)) is not None]


def _run(
    case: Case, figures: dict[Case, Figures], turns: list[Figures], artifacts: set[str]
) -> Run:
    spread = {
        name: (min(values), max(values)) for name in TIMES if (values := _values(turns, name))
    }
    if case.name not in artifacts:
        return Run(case, figures[case], spread, None, {})
    dense = figures.get(Case(case.name, 1.0, case.threads, case.context))
    ratios = {}
    for other, theirs in figures.items():
        alike = (other.threads, other.context) == (case.threads, case.context)
        if alike and other.name not in artifacts:
            ratios[other.name] = _compare(figures[case], theirs)
    speedup = _compare(figures[case], dense).get("decode") if dense else None
    return Run(case, figures[case], spread, speedup, ratios)


def _compare(ours: Figures, theirs: Figures) -> dict[str, float]:
    """How much better ours are, of what both have."""
    pairs = {
        "decode": (ours["decode_tps"], theirs["decode_tps"]),
        "prefill": (ours["prefill_tps"], theirs["prefill_tps"]),
        "ttft": (theirs["ttft_ms"], ours["ttft_ms"]),
    }
    return {name: a / b for name, (a, b) in pairs.items() if a and b}


def _plain(run: Run, role: str) -> dict[str, Any]:
    case = run.case
    data: dict[str, Any] = {role: case.name, "threads": case.threads, "context": case.context}
    if role == "artifact":
        data |= {"density": case.density, "speedup": run.speedup, "ratios": run.ratios}
    return {**data, **run.figures, "spread": run.spread}
