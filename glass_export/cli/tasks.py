"""``glass-export eval SUBJECT --tasks``: tasks of lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glass_export import console
from glass_export.cli.subject import is_artifact, rule_finder

if TYPE_CHECKING:
    from glass_export.evaluate.tasks import TaskEvaluation, TaskScore, TaskSettings

NOT_WITH_TASKS = (
    "prompts", "refresh", "dense_start", "tokens", "temperature", "every", "baseline", "report",
)  # fmt: skip
"""Options of ``eval`` that say how answers of the dense model are compared."""
_WIDE, _COLUMN = 160, 24  # characters: of a screen that is a file, and at least of a figure


def require_fitting(context: typer.Context) -> None:
    """Raise BadParameter for an option that has no meaning with ``--tasks``."""
    for name in NOT_WITH_TASKS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"--{name.replace('_', '-')}: it is about the dense model's answers to prompts, "
                "which --tasks takes the place of; leave one of them out"
            )


def evaluate_tasks(
    subject: str, settings: TaskSettings, threads: int | None, *, as_json: bool
) -> None:
    """Measure and show."""
    outcome = _evaluate(subject, settings, threads)
    if as_json:
        from glass_export.schema import to_data

        typer.echo(json.dumps(to_data(outcome)))
    else:
        _show(outcome)


def _evaluate(subject: str, settings: TaskSettings, threads: int | None) -> TaskEvaluation:
    from glass_export.evaluate.tasks import evaluate_artifact_tasks, evaluate_model_tasks

    if is_artifact(subject):
        return evaluate_artifact_tasks(Path(subject), settings, threads=threads)

    from glass_export.recipe import resolve

    recipe = resolve(subject)
    return evaluate_model_tasks(recipe, settings, find_auto=rule_finder(recipe), threads=threads)


def _show(outcome: TaskEvaluation) -> None:
    """A row for each method, a column for each figure."""
    questions = ", ".join(f"{count} of {name}" for name, count in outcome.questions.items())
    headings = [_heading(score) for score in outcome.methods[0].scores]
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in headings:
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in outcome.methods:
        table.add_row(escape(row.label), *map(_figure, row.scores))
    width = max(console.stdout.width, _WIDE, 40 + sum(max(_COLUMN, len(h) + 2) for h in headings))
    screen = Console(highlight=False, width=width)
    decoded = "" if outcome.decoded is None else f"; {outcome.decoded:.0%} of scored tokens decoded"
    screen.print(
        f"{outcome.subject}: {outcome.where}; questions: {questions}{decoded}", markup=False
    )
    screen.print()
    screen.print(table)


def _heading(score: TaskScore) -> str:
    read = "" if score.filter == "none" else f" ({score.filter})"
    return f"{score.task} {score.metric}{read}"


def _figure(score: TaskScore) -> str:
    return f"{score.value:.3f}" + ("" if score.error is None else f" ± {score.error:.3f}")
