"""``glass-export compare``: the same answer dense and sparse, on one artifact or several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from glass_export import console
from glass_export.cli.generate import Messages, plain, stats_table
from glass_export.cli.options import values

if TYPE_CHECKING:
    from glass_export.runtime import Generation, Session

DENSE = "dense"
Settings = dict[str, dict[str, Any]]
"""Arguments of ``Session.generate`` by the name that is shown."""
Answers = dict[str, "Generation"]
"""By the name of the setting; DENSE is the first."""
_FIGURES = ("chosen anew", "ttft ms", "prefill tok/s", "decode tok/s", "x dense")


def compare(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIRECTORY", help="Artifact directories.")
    ],
    prompt: Annotated[str, typer.Argument(help="Question or text.")],
    density: Annotated[
        str | None,
        typer.Option(help="Densities of the sparse answers, such as 0.75,0.5."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Profiles of the sparse answers, such as fast,balanced (all of the artifact's, "
            "unless --density is given)."
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 96,
    repeat: Annotated[
        int, typer.Option(min=1, help="Times that each is measured, in turns; the median counts.")
    ] = 3,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Answer PROMPT dense and sparse, and show the speed of both; of every artifact given."""
    from glass_export.runtime import Session

    densities = () if density is None else values("--density", density, float)
    profiles = () if profile is None else tuple(name.strip() for name in profile.split(","))
    results: dict[Path, Answers] = {}
    for directory in directories:
        with Session.open(directory, threads=threads) as session:
            settings = _settings(session, densities, profiles)
            results[directory] = _answers(session, prompt, settings, max_new_tokens, repeat)
    if as_json:
        data = [
            {"artifact": str(directory), "setting": setting, **plain(answer)}
            for directory, answers in results.items()
            for setting, answer in answers.items()
        ]
        typer.echo(json.dumps(data))
    elif len(results) == 1:
        _show(next(iter(results.values())))
    else:
        _show_several(results)


def _settings(session: Session, densities: Sequence[float], profiles: Sequence[str]) -> Settings:
    """The dense answer, then what is asked for."""
    if not (densities or profiles):
        profiles = [*session.profiles]
        densities = [] if profiles else [session.defaults.density]
    sparse: Settings = {f"density {value:g}": {"density": value} for value in densities}
    sparse |= {name: {"profile": name} for name in profiles}
    for name in profiles:
        session.selection_args(name, {})  # an unknown one is refused before the work
    return {DENSE: {"density": 1.0}} | sparse


def _answers(
    session: Session, prompt: str, settings: Settings, max_new_tokens: int, repeat: int
) -> Answers:
    """The answer of median speed for each setting; greedy answers differ in their times alone."""
    question = _question(session, prompt)
    session.generate(question, max_new_tokens=4, **[*settings.values()][-1])  # warm up
    runs: dict[str, list[Generation]] = {name: [] for name in settings}
    for name in [*settings] * repeat:
        runs[name].append(
            session.generate(question, max_new_tokens=max_new_tokens, reset=True, **settings[name])
        )
    return {name: _median(results) for name, results in runs.items()}


def _question(session: Session, prompt: str) -> str | Messages:
    templated = session.text.template is not None
    return [{"role": "user", "content": prompt}] if templated else prompt


def _median(results: list[Generation]) -> Generation:
    return sorted(results, key=lambda result: result.stats.decode_tps)[len(results) // 2]


def _show_texts(answers: Answers, prefix: str = "") -> None:
    for setting, answer in answers.items():
        console.stdout.print(f"[bold]--- {escape(prefix + setting)}")
        typer.echo(answer.text.strip() + "\n")


def _show(answers: Answers) -> None:
    _show_texts(answers)
    console.stdout.print(stats_table(answers))
    for setting in answers:
        if setting != DENSE and (ratio := _speedup(answers, setting)):
            console.stdout.print(f"{escape(setting)}: decode is {ratio:.2f}x as fast as dense")


def _show_several(results: dict[Path, Answers]) -> None:
    """Texts, then one row for every artifact and setting."""
    table = Table(box=None, pad_edge=False)
    for name in ("artifact", "setting"):
        table.add_column(name, no_wrap=True)
    for figure in ("density", *_FIGURES):
        table.add_column(figure, justify="right")
    for directory, answers in results.items():
        _show_texts(answers, f"{directory.name}, ")
        for setting, answer in answers.items():
            stats, ratio = answer.stats, _speedup(answers, setting)
            table.add_row(
                escape(directory.name),
                escape(setting),
                f"{stats.density:g}",
                str(stats.refreshes),
                f"{stats.ttft_ms:,.0f}",
                f"{stats.prefill_tps:,.0f}",
                f"{stats.decode_tps:,.1f}",
                f"{ratio:.2f}" if ratio else "",
            )
    console.stdout.print(table)


def _speedup(answers: Answers, setting: str) -> float | None:
    """Decode speed against the dense model; None when an answer is too short to tell."""
    dense, sparse = answers[DENSE].stats.decode_tps, answers[setting].stats.decode_tps
    return sparse / dense if dense and sparse and setting != DENSE else None
