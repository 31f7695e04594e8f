"""Runs a benchmark: all contestants take turns in rounds, then quality, then memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from glass_export.bench.contestants import Contestant, Settings
from glass_export.bench.llama_bench import LlamaBench
from glass_export.bench.outcome import Case, Outcome
from glass_export.bench.runner import Runner
from glass_export.log import progress

Racer = Runner | LlamaBench


def measure(
    contestants: Sequence[Contestant], settings: Settings, reference: Contestant | None = None
) -> Outcome:
    """Measure all contestants.

    Quality is measured once, with the first number of threads.

    Args:
        contestants: Artifacts, then peers.
        settings: Checked ones.
        reference: Artifact whose dense predictions KL is measured against. None: each artifact's
            own, and for peers the first artifact's.

    Raises:
        WorkerError: a contestant cannot be loaded. Later failures are part of the outcome.
    """
    outcome = Outcome()
    for threads in settings.threads:
        with ExitStack() as processes:
            runners = _load(_running(contestants, outcome), threads, processes, outcome)
            _race(runners, threads, settings, outcome)
            if threads == settings.threads[0]:
                workers = [r for r in runners if isinstance(r, Runner)]
                _score(workers, reference, threads, outcome)
    _measure_memory(contestants, settings, outcome)
    return outcome


def _running(contestants: Sequence[Contestant], outcome: Outcome) -> list[Contestant]:
    return [c for c in contestants if c.name not in outcome.failures]


def _load(
    contestants: Sequence[Contestant], threads: int, processes: ExitStack, outcome: Outcome
) -> list[Racer]:
    runners: list[Racer] = []
    with progress("load models", len(contestants), "models") as task:
        for contestant in contestants:
            if contestant.is_worker:
                runners.append(processes.enter_context(Runner(contestant, threads)))
            else:
                runners.append(LlamaBench(contestant, threads))
            outcome.engines[contestant.name] = runners[-1].engine
            task.advance()
    return runners


def _race(runners: Sequence[Racer], threads: int, settings: Settings, outcome: Outcome) -> None:
    """One round to warm up, then those that count; each begins with another contestant."""
    turns = len(settings.contexts) * sum(len(r.contestant.densities) for r in runners)
    with progress("take turns", turns * (settings.repeats + 1), "turns") as task:
        for number in range(-1, settings.repeats):
            first = max(number, 0) % len(runners)
            for runner in [*runners[first:], *runners[:first]]:
                for case in _cases(runner.contestant, threads, settings):
                    _take_turn(runner, case, settings.tokens, outcome, counts=number >= 0)
                    task.advance()


def _cases(contestant: Contestant, threads: int, settings: Settings) -> list[Case]:
    return [
        Case(contestant.name, density, threads, context)
        for context in settings.contexts
        for density in contestant.densities
    ]


def _take_turn(runner: Racer, case: Case, tokens: int, outcome: Outcome, *, counts: bool) -> None:
    if case.name in outcome.failures:
        return
    with outcome.blaming(runner.contestant):
        figures = runner.turn(case, tokens)
        if counts:
            outcome.samples.setdefault(case, []).append(figures)


def _score(
    runners: Sequence[Runner], reference: Contestant | None, threads: int, outcome: Outcome
) -> None:
    """Quality of everybody's decode. The references' predictions lie in files meanwhile."""
    with (
        TemporaryDirectory(prefix="glass-bench-") as folder,
        progress("score the text", len(runners), "models") as task,
    ):
        shared = Path(folder) / "reference.npy"
        if reference is not None:
            with Runner(reference, threads) as runner:
                runner.score(1.0, shared, save=True)
        for index, runner in enumerate(runners):
            own = reference is None and runner.contestant.is_artifact
            path = Path(folder) / f"{index if own else 0}.npy" if reference is None else shared
            with outcome.blaming(runner.contestant):
                _score_densities(runner, path, outcome, own=own)
            task.advance()


def _score_densities(runner: Runner, reference: Path, outcome: Outcome, *, own: bool) -> None:
    """Score one contestant; with ``own`` its dense decode writes the reference first."""
    contestant = runner.contestant
    if contestant.name in outcome.failures or not (own or reference.exists()):
        return
    if own:
        outcome.quality[contestant.name, 1.0] = runner.score(1.0, reference, save=True)
    for density in contestant.densities:
        if (contestant.name, density) not in outcome.quality:
            outcome.quality[contestant.name, density] = runner.score(density, reference)


def _measure_memory(
    contestants: Sequence[Contestant], settings: Settings, outcome: Outcome
) -> None:
    """A fresh process for each case, because the peak of a process never falls."""
    cases = [
        (contestant, case)
        for contestant in _running(contestants, outcome)
        if contestant.is_worker
        for threads in settings.threads
        for case in _cases(contestant, threads, settings)
    ]
    with progress("measure memory", len(cases), "processes") as task:
        for contestant, case in cases:
            if contestant.name not in outcome.failures:
                with (
                    outcome.blaming(contestant),
                    Runner(contestant, case.threads) as runner,
                ):
                    outcome.memory[case] = runner.memory(case, settings.tokens)
            task.advance()
