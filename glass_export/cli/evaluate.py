"""``glass-export eval``: fidelity of sparse decoding, of a model or of an artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from glass_export import console
from glass_export.cli.generate import refresh_tokens
from glass_export.cli.options import values
from glass_export.cli.subject import is_artifact, rule_finder
from glass_export.cli.tasks import evaluate_tasks, require_fitting

if TYPE_CHECKING:
    from glass_export.evaluate.summary import Evaluation
    from glass_export.evaluate.sweep import EvalSettings

T = TypeVar("T", int, float)
SWEEPS = "What is compared: every combination of values, joined by commas"
ANSWERS = "Answers of the dense model"
_WIDE = 160  # characters: more than a table has, since a file has no width to keep to


def evaluate(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT", help="Artifact directory, or a model as --model of an export."
        ),
    ],
    prompts: Annotated[
        str, typer.Option(help="tuning, reporting, or a .jsonl, .json or .txt file.")
    ] = "reporting",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use the first prompts or questions only.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Tasks of lm-eval instead of prompts: arc_easy,..."),
    ] = None,
    tasks_path: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Further tasks, as .yaml files.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Ways to choose neurons, such as griffin,auto.", rich_help_panel=SWEEPS),
    ] = None,
    density: Annotated[
        str | None, typer.Option(help="Shares of FFN neurons.", rich_help_panel=SWEEPS)
    ] = None,
    refresh: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS|auto|off",
            help="Tokens decoded between two choices; auto of artifacts.",
            rich_help_panel=SWEEPS,
        ),
    ] = None,
    dense_start: Annotated[
        str | None,
        typer.Option(help="First tokens of an answer that are dense.", rich_help_panel=SWEEPS),
    ] = None,
    lam: Annotated[
        str | None, typer.Option(help="Weights of the prior in borda.", rich_help_panel=SWEEPS)
    ] = None,
    tau: Annotated[
        str | None,
        typer.Option(help="Weights of the prior in shrinkage, tokens.", rich_help_panel=SWEEPS),
    ] = None,
    prompt_tokens: Annotated[
        str | None,
        typer.Option(help="First scored tokens of the prompt that count.", rich_help_panel=SWEEPS),
    ] = None,
    prior_tokens: Annotated[
        str | None,
        typer.Option(help="Tokens that the prior is measured on.", rich_help_panel=SWEEPS),
    ] = None,
    prior_text: Annotated[
        str | None,
        typer.Option(
            metavar="null,template,mixed",
            help="What that text starts with: nothing, the chat template, or both.",
            rich_help_panel=SWEEPS,
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Longest answer.", rich_help_panel=ANSWERS)] = 128,
    temperature: Annotated[
        float, typer.Option(help="Above 0: answers are sampled.", rich_help_panel=ANSWERS)
    ] = 0.8,
    seed: Annotated[
        int, typer.Option(help="Of answers and random neurons.", rich_help_panel=ANSWERS)
    ] = 0,
    every: Annotated[
        int | None,
        typer.Option(help="Compare every so many tokens (1; 4 with a large vocabulary)."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Method that ratios refer to (griffin).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line alone.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report with charts, in HTML.")
    ] = None,
) -> None:
    """Compare sparse decoding with the dense model: KL, perplexity, and speed of artifacts.

    The dense model answers prompts; its answers are then fed to the sparse model token by token.
    With --tasks, both are asked questions of lm-eval instead.
    """
    if tasks is not None:
        require_fitting(context)
    elif tasks_path is not None:
        raise typer.BadParameter("--tasks-path: it needs --tasks with the names of tasks")
    sweeps: dict[str, Any] = {
        "density": _numbers("--density", density, float),
        "refresh": _refreshes(refresh),
        "dense_start": _numbers("--dense-start", dense_start, int),
        "lam": _numbers("--lam", lam, float),
        "tau": _numbers("--tau", tau, float),
        "prompt_tokens": _numbers("--prompt-tokens", prompt_tokens, int),
        "prior_tokens": _numbers("--prior-tokens", prior_tokens, int),
        "prior_text": _words(prior_text),
    }
    names = _words(methods) or _default_methods(subject, sweeps, of_tasks=tasks is not None)
    if tasks is not None:
        from glass_export.evaluate.sweep import Sweep
        from glass_export.evaluate.tasks import TaskSettings

        asked = TaskSettings(
            tasks=_words(tasks),
            sweep=Sweep(methods=names, **sweeps),
            limit=limit,
            folder=tasks_path,
            seed=seed,
        )
        evaluate_tasks(subject, asked, threads, as_json=as_json)
        return
    if baseline is not None and baseline not in names:
        raise typer.BadParameter(f"--baseline {baseline!r}: not among {', '.join(names)}")

    from glass_export.evaluate import report as reports
    from glass_export.evaluate.answers import AnswerSettings
    from glass_export.evaluate.prompts import load_prompts
    from glass_export.evaluate.sweep import EvalSettings, Sweep

    if report is not None:
        reports.check(report)
    settings = EvalSettings(
        prompts=load_prompts(prompts)[:limit],
        prompts_name=prompts,
        sweep=Sweep(methods=names, **sweeps),
        answers=AnswerSettings(tokens=tokens, temperature=temperature, seed=seed),
        every=every,
        baseline=baseline or "griffin",
    )
    outcome = _evaluate(subject, settings, threads)
    _show(outcome, as_json=as_json)
    if report is not None:
        reports.write(outcome, report)


def _numbers(option: str, text: str | None, parse: type[T]) -> tuple[T, ...]:
    return () if text is None else values(option, text, parse)


def _words(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(word.strip() for word in text.split(","))


def _refreshes(text: str | None) -> tuple[int | str, ...]:
    try:
        return tuple(refresh_tokens(part) for part in _words(text))
    except typer.BadParameter as problem:
        raise typer.BadParameter(f"--refresh: {problem}") from problem


def _default_methods(subject: str, sweeps: dict[str, Any], *, of_tasks: bool) -> tuple[str, ...]:
    """The standard rules, the subject's own and, where it can be had, the oracle."""
    from glass_export.evaluate.sweep import STANDARD

    if of_tasks:
        return (*STANDARD, "auto")
    if not is_artifact(subject):
        return (*STANDARD, "auto", "oracle")
    chosen_again = any((*sweeps["refresh"], *sweeps["dense_start"]))
    return (*STANDARD, "auto", *(() if chosen_again else ("oracle",)))


def _evaluate(subject: str, settings: EvalSettings, threads: int | None) -> Evaluation:
    if is_artifact(subject):
        from glass_export.evaluate.artifact import evaluate_artifact

        return evaluate_artifact(Path(subject), settings, threads=threads)

    from glass_export.recipe import resolve

    recipe = resolve(subject)  # before torch is imported, which takes seconds

    from glass_export.evaluate.run import evaluate_model

    return evaluate_model(recipe, settings, find_auto=rule_finder(recipe), threads=threads)


def _show(outcome: Evaluation, *, as_json: bool) -> None:
    from glass_export.evaluate.table import headline, tables
    from glass_export.schema import to_data

    if as_json:
        typer.echo(json.dumps(to_data(outcome)))
        return
    screen = Console(highlight=False, width=max(console.stdout.width, _WIDE))
    screen.print(headline(outcome), markup=False)
    for table in tables(outcome):
        screen.print()
        screen.print(table)
