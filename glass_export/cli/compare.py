"""``glass-export compare``: the same answer dense and sparse, on one artifact or several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from glass_export import console
from glass_export.cli.generate import Messages, plain, stats_table
from glass_export.cli.options import values

if TYPE_CHECKING:
    from glass_export.runtime import Generation, Session

Answers = dict[float, "Generation"]
"""By density; 1.0 is the dense model."""


def compare(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIRECTORY", help="Artifact directories.")
    ],
    prompt: Annotated[str, typer.Argument(help="Question or text.")],
    density: Annotated[
        str | None,
        typer.Option(help="Densities of the sparse answers, such as 0.75,0.5 (the artifact's)."),
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

    wanted = None if density is None else values("--density", density, float)
    results: dict[Path, Answers] = {}
    for directory in directories:
        with Session.open(directory, threads=threads) as session:
            results[directory] = _answers(session, prompt, wanted, max_new_tokens, repeat)
    if as_json:
        data = [
            {"artifact": str(directory), **plain(answer)}
            for directory, answers in results.items()
            for answer in answers.values()
        ]
        typer.echo(json.dumps(data))
    elif len(results) == 1:
        _show(next(iter(results.values())))
    else:
        _show_several(results)


def _answers(
    session: Session, prompt: str, wanted: Sequence[float] | None, max_new_tokens: int, repeat: int
) -> Answers:
    """The answer of median speed for each density; greedy answers differ in their times alone."""
    chosen = [session.defaults.density] if wanted is None else wanted
    question, densities = _question(session, prompt), dict.fromkeys((1.0, *chosen))
    session.generate(question, max_new_tokens=4, density=chosen[0])  # warm up
    runs: dict[float, list[Generation]] = {value: [] for value in densities}
    for value in [*densities] * repeat:
        runs[value].append(
            session.generate(question, max_new_tokens=max_new_tokens, density=value, reset=True)
        )
    return {value: _median(results) for value, results in runs.items()}


def _question(session: Session, prompt: str) -> str | Messages:
    templated = session.text.template is not None
    return [{"role": "user", "content": prompt}] if templated else prompt


def _median(results: list[Generation]) -> Generation:
    return sorted(results, key=lambda result: result.stats.decode_tps)[len(results) // 2]


def _show_texts(answers: Answers, prefix: str = "") -> None:
    for density, answer in answers.items():
        label = "dense" if density == 1.0 else f"density {density:g}"
        console.stdout.print(f"[bold]--- {prefix}{label}")
        typer.echo(answer.text.strip() + "\n")


def _show(answers: Answers) -> None:
    _show_texts(answers)
    console.stdout.print(stats_table({f"density {d:g}": a for d, a in answers.items()}))
    for density in answers:
        if density != 1.0 and (ratio := _speedup(answers, density)):
            console.stdout.print(f"decode at density {density:g} is {ratio:.2f}x as fast as dense")


def _show_several(results: dict[Path, Answers]) -> None:
    """Texts, then one row for every artifact and density."""
    table = Table(box=None, pad_edge=False)
    for column in ("artifact", "density", "ttft ms", "prefill tok/s", "decode tok/s", "x dense"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for directory, answers in results.items():
        _show_texts(answers, f"{directory.name}, ")
        for density, answer in answers.items():
            stats, ratio = answer.stats, _speedup(answers, density)
            table.add_row(
                directory.name,
                f"{density:g}",
                f"{stats.ttft_ms:,.0f}",
                f"{stats.prefill_tps:,.0f}",
                f"{stats.decode_tps:,.1f}",
                f"{ratio:.2f}" if ratio else "",
            )
    console.stdout.print(table)


def _speedup(answers: Answers, density: float) -> float | None:
    """Decode speed against the dense model; None when an answer is too short to tell."""
    dense, sparse = answers[1.0].stats.decode_tps, answers[density].stats.decode_tps
    return sparse / dense if dense and sparse else None
