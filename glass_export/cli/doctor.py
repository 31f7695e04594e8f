"""``glass-export doctor``: what is installed and built, and what is missing."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from glass_export import console

if TYPE_CHECKING:
    from glass_export.doctor import Finding

_MARKS = {"ok": "[green]ok", "note": "[yellow]note", "problem": "[red]problem"}


def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Open ExecuTorch, too, which takes seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check this installation. Exit code 1 when something needed is missing or broken."""
    from glass_export.doctor import examine

    findings = examine(full=full)
    healthy = all(finding.state != "problem" for finding in findings)
    if as_json:
        plain = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(json.dumps({"ok": healthy, "findings": plain}))
    else:
        _show(findings)
    if not healthy:
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    for group in dict.fromkeys(finding.group for finding in findings):
        table = Table(
            title=group, title_justify="left", title_style="bold", show_header=False, box=None,
            pad_edge=False,
        )  # fmt: skip
        table.add_column()
        table.add_column()
        table.add_column(overflow="fold")
        for finding in findings:
            if finding.group == group:
                table.add_row(_MARKS[finding.state], escape(finding.name), escape(finding.value))
                if finding.fix:
                    table.add_row("", "", f"[bold]-> {escape(finding.fix)}")
        console.stdout.print(table)
        console.stdout.print()
