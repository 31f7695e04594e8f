"""``glass-export tune``: find the setting of an artifact that suits this device."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from glass_export import console
from glass_export.cli.generate import refresh_tokens
from glass_export.cli.options import values
from glass_export.cli.signing import SignOption, load_key
from glass_export.log import logger

if TYPE_CHECKING:
    from glass_export.artifact import SigningKey
    from glass_export.evaluate.sweep import EvalSettings
    from glass_export.tune import Point, Tuning

SWEEPS = "What is measured: every combination of values, joined by commas"
GOALS = "What is asked for (neither: show the front, write nothing)"


def _refreshes(text: str) -> tuple[int | str, ...]:
    return tuple(refresh_tokens(part.strip()) for part in text.split(","))


def tune(
    directory: Annotated[Path, typer.Argument(help="Artifact directory.")],
    max_kl: Annotated[
        float | None,
        typer.Option(
            help="Most KL per token, nats; the fastest such setting is taken.",
            rich_help_panel=GOALS,
        ),
    ] = None,
    min_speedup: Annotated[
        float | None,
        typer.Option(
            help="Least decode speed, relative to the dense form's.", rich_help_panel=GOALS
        ),
    ] = None,
    densities: Annotated[
        str, typer.Option(help="Shares of FFN neurons, below 1.", rich_help_panel=SWEEPS)
    ] = "0.9,0.75,0.6,0.5,0.4,0.3",
    refresh: Annotated[
        Any,
        typer.Option(
            parser=_refreshes,
            metavar="TOKENS|auto|off",
            help="Tokens decoded between two choices.",
            rich_help_panel=SWEEPS,
        ),
    ] = "off,64,32",
    dense_start: Annotated[
        str,
        typer.Option(help="First tokens of an answer that are dense.", rich_help_panel=SWEEPS),
    ] = "0,16",
    prompts: Annotated[
        str, typer.Option(help="tuning, reporting, or a .jsonl, .json or .txt file.")
    ] = "tuning",
    limit: Annotated[int, typer.Option(min=1, help="Use so many prompts at most.")] = 12,
    tokens: Annotated[int, typer.Option(help="Longest answer of the dense model.")] = 96,
    name: Annotated[str, typer.Option(help="Name of the profile that is written.")] = "tuned",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    signing_key: SignOption = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line alone.")] = False,
) -> None:
    """Measure fidelity and speed of settings on this device, and keep the best as a profile."""
    from glass_export.evaluate.answers import AnswerSettings
    from glass_export.evaluate.prompts import load_prompts
    from glass_export.evaluate.sweep import EvalSettings, Sweep
    from glass_export.tune import Goal, measure, pick

    if not name.strip():
        raise typer.BadParameter("--name: got nothing, expected the name of a profile")
    goal = Goal(max_kl=max_kl, min_speedup=min_speedup)
    settings = EvalSettings(
        prompts=load_prompts(prompts)[:limit],
        prompts_name=prompts,
        sweep=Sweep(
            methods=("auto",),
            density=values("--densities", densities, float),
            refresh=refresh,
            dense_start=values("--dense-start", dense_start, int),
        ),
        answers=AnswerSettings(tokens=tokens),
    )
    key = load_key(signing_key) if signing_key else None
    _announce(settings)
    found = measure(directory, settings, threads=threads)
    if not as_json:
        _show(found)
    picked = pick(found.points, goal) if max_kl is not None or min_speedup is not None else None
    written = picked is not None and not dry_run
    if picked is not None and written:
        _write(directory, name, picked, found.device, key)
    if as_json:
        typer.echo(json.dumps(_plain(directory, found, picked, name if written else None)))
    elif picked is not None:
        _conclude(directory, picked, name if written else None)


def _announce(settings: EvalSettings) -> None:
    """Say how much is to be measured; progress bars then tell how long it takes."""
    sweep, texts = settings.sweep, len(settings.prompts)
    count = len(sweep.density) * len(sweep.refresh) * len(sweep.dense_start)
    if logger.isEnabledFor(logging.WARNING):  # not with --quiet
        console.stderr.print(
            f"[dim]{count} settings and the dense form on {texts} answers of up to "
            f"{settings.answers.tokens} tokens"
        )


def _show(found: Tuning) -> None:
    """The Pareto front, the dense form in its place."""
    from glass_export.evaluate.table import pair
    from glass_export.tune import front

    table = Table(box=None, pad_edge=False)
    for column in ("density", "refresh", "dense start", "KL", "tok/s", "x dense"):
        table.add_column(column, justify="right", no_wrap=True)
    best = front([found.dense, *found.points])
    for point in best:
        dense = point is found.dense
        table.add_row(
            "dense" if dense else f"{point.density:g}",
            "" if dense else str(point.refresh or "off"),
            "" if dense else str(point.dense_start),
            "0" if dense else pair(point.kl, 3),
            f"{point.tps:,.1f}",
            f"{point.speedup:.2f}",
        )
    console.stdout.print(table)
    left_out = 1 + len(found.points) - len(best)
    if left_out:
        console.stdout.print(f"not shown: {left_out} that another beats in both KL and speed")


def _write(directory: Path, name: str, picked: Point, device: str, key: SigningKey | None) -> None:
    from glass_export.artifact import write_profile
    from glass_export.tune import as_profile

    write_profile(directory, name, as_profile(picked, device), key=key)


def _conclude(directory: Path, picked: Point, written: str | None) -> None:
    console.stdout.print(
        f"[bold]{picked.label}[/]: KL {picked.kl.value:.3f}, {picked.speedup:.2f}x dense"
        + ("" if written is None else f"; profile {escape(repr(written))} written")
    )
    if picked.speedup <= 1:
        logger.warning("%s is not faster than the dense form here", picked.label)
    if written is not None:
        command = f'glass-export run {directory} --profile {written} "Who are you?"'
        console.stderr.print(f"[dim]try it: {escape(command)}")


def _plain(
    directory: Path, found: Tuning, picked: Point | None, written: str | None
) -> dict[str, Any]:
    from glass_export.schema import to_data
    from glass_export.tune import front

    best = front([found.dense, *found.points])
    points = [{**to_data(point), "front": point in best} for point in found.points]
    return {
        "artifact": str(directory),
        **to_data(found),
        "points": points,
        "picked": None if picked is None else to_data(picked),
        "profile": written,
    }
