"""``glass-export plan``: what an export needs and gives, before any work."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from glass_export import console
from glass_export.cli.export import recipe_and_folder, target_overrides

if TYPE_CHECKING:
    from glass_export.plan import Plan


def plan(
    model: Annotated[
        str, typer.Argument(help="A recipe's name, a hub id, a model folder or a .gguf file.")
    ],
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="NAME", help="onnx or executorch.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="FORMAT", help="fp32, int8 or int4.")
    ] = None,
    custom_ops: Annotated[
        bool | None,
        typer.Option("--custom-ops/--no-custom-ops", help="The project's operators, or stock."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the artifact would go.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a recipe's value.")
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Read weights when they are used (default: if they do not fit in memory).",
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Without the comparison with the eager model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what an export would need: sizes, memory, disk, time. Exit code 1 when it cannot be made.

    Reads the configuration and the headers of the weight files, and no weight.
    """
    changes = [*(overrides or []), *target_overrides(target, dtype, custom_ops)]
    recipe, folder = recipe_and_folder(model, output, changes, verify=not no_verify)

    from glass_export.plan import make_plan

    made = make_plan(recipe, folder, streamed=stream)
    if as_json:
        totals = {name: getattr(made, name) for name in ("artifact", "peak_memory", "seconds")}
        typer.echo(json.dumps({**asdict(made), **totals}))
    else:
        _show(made)
    made.require()


def _show(made: Plan) -> None:
    from glass_export.plan import gigabytes

    form = f"{made.dtype}, {'own' if made.custom_ops else 'stock'} operators"
    table = Table(title=f"{made.model} for {made.target}: {form}", title_justify="left")
    for column in ("", "bytes", "time"):
        table.add_column(column, justify="left" if not column else "right")
    for name, size in made.parts.items():
        table.add_row(name, gigabytes(size), "")
    table.add_row("[bold]artifact[/]", f"[bold]{gigabytes(made.artifact)}[/]", "", end_section=True)
    for name, stage in made.stages.items():
        table.add_row(f"memory, {name}", gigabytes(stage.memory), duration(stage.seconds))
    table.add_row(
        "[bold]peak memory[/]",
        f"[bold]{gigabytes(made.peak_memory)}[/]",
        duration(made.seconds),
        end_section=True,
    )
    table.add_row("memory available", gigabytes(made.memory) if made.memory else "unknown", "")
    table.add_row("disk needed", gigabytes(made.artifact + made.scratch), "")
    table.add_row("disk free", gigabytes(made.disk), "")
    console.stdout.print(table)
    how = "read each time that they are used" if made.streamed else "held in memory"
    checkpoint = f"{made.weights / 1e9:.2f} billion in {gigabytes(made.checkpoint)}"
    console.stdout.print(f"weights: {checkpoint}, {how}")


def duration(seconds: float) -> str:
    """A rough time: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
