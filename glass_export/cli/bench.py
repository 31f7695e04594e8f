"""``glass-export bench``: speed, memory and quality of artifacts, beside other runtimes."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from glass_export import console
from glass_export.cli.options import values

if TYPE_CHECKING:
    from glass_export.bench.contestants import Contestant, Settings
    from glass_export.bench.results import Results, Run

PEERS = "Other runtimes"
_WIDE = 160  # characters: more than a table has, since a file has no width to keep to


def bench(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIRECTORY", help="Artifact directories.")
    ],
    density: Annotated[
        str, typer.Option(help="Shares of FFN neurons, joined by commas; 1.0 is dense.")
    ] = "0.3,0.5,1.0",
    threads: Annotated[
        str | None, typer.Option(help="CPU threads, such as 1,2 (all that may be used).")
    ] = None,
    context: Annotated[str, typer.Option(help="Lengths of the prompt, in tokens.")] = "128",
    tokens: Annotated[int, typer.Option(min=1, help="Decoded and timed after a prompt.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds, in which all take turns.")] = 5,
    reference: Annotated[
        Path | None,
        typer.Option(help="Artifact whose dense predictions KL is against (each one's own)."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="llama.cpp, llama-bench, onnxruntime-genai or xnnpack; repeatable.",
            rich_help_panel=PEERS,
        ),
    ] = None,
    peer_model: Annotated[
        list[Path] | None,
        typer.Option(help="Model of each --against, in their order.", rich_help_panel=PEERS),
    ] = None,
    peer_python: Annotated[
        Path | None,
        typer.Option(help="Python that has the peers' packages.", rich_help_panel=PEERS),
    ] = None,
    llama_bench: Annotated[
        Path | None,
        typer.Option(help="The program llama-bench (the one in PATH).", rich_help_panel=PEERS),
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw speed against KL.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON line alone.")] = False,
) -> None:
    """Measure speed, memory and quality of artifacts; a table, then one line of JSON."""
    from glass_export.bench import chart as charts
    from glass_export.bench.contestants import Settings
    from glass_export.bench.measure import measure
    from glass_export.bench.results import summarise

    settings = Settings(
        densities=values("--density", density, float),
        threads=() if threads is None else values("--threads", threads, int),
        contexts=values("--context", context, int),
        repeats=repeats,
        tokens=tokens,
    ).checked()
    if chart is not None:
        charts.check(chart)
    contestants = _artifacts(directories, settings)
    judge = None if reference is None else _reference(reference, contestants, settings)
    programs = {"python": peer_python, "llama_bench": llama_bench}
    contestants += _peers(against or [], peer_model or [], programs, contestants[0])
    outcome = measure(contestants, settings, judge)
    results = summarise(contestants, settings, outcome, judge)
    if not as_json:
        _show(results)
    typer.echo(json.dumps(results.document()))
    if chart is not None:
        charts.draw(results, chart)
    if results.failures:
        for name, reason in results.failures.items():
            console.error(f"{name}: {reason}")
        raise typer.Exit(1)


def _artifacts(directories: list[Path], settings: Settings) -> list[Contestant]:
    from glass_export.bench.contestants import artifact_contestant, require_distinct

    contestants = [artifact_contestant(directory, settings) for directory in directories]
    require_distinct(contestants)
    return contestants


def _reference(folder: Path, artifacts: list[Contestant], settings: Settings) -> Contestant:
    from glass_export.bench.contestants import artifact_contestant, require_one_text

    reference = artifact_contestant(folder, settings)
    for artifact in artifacts:
        require_one_text(reference, artifact)
    return reference


def _peers(
    names: list[str], models: list[Path], programs: dict[str, Path | None], artifact: Contestant
) -> list[Contestant]:
    from glass_export.bench.contestants import peer_contestant, require_distinct

    if len(models) > len(names):
        raise typer.BadParameter(
            f"--peer-model: got {len(models)}, but --against {len(names)} times; "
            "each --against takes one model"
        )
    if programs["llama_bench"] and "llama-bench" not in names:
        raise typer.BadParameter("--llama-bench: it takes part with --against llama-bench")
    peers = [
        peer_contestant(name, model, artifact, **programs)
        for name, model in zip_longest(names, models)
    ]
    require_distinct(peers)
    return peers


def _show(results: Results) -> None:
    """A table for each number of threads and context, wide enough for a file too."""
    screen = Console(highlight=False, width=max(console.stdout.width, _WIDE))
    runs = [*results.artifact_runs, *results.peer_runs]
    for threads, context in dict.fromkeys((r.case.threads, r.case.context) for r in runs):
        alike = [r for r in runs if (r.case.threads, r.case.context) == (threads, context)]
        screen.print(_table(f"{threads} threads, context {context}", alike))


COLUMNS = {
    "ttft ms": ("ttft_ms", ",.0f"),
    "prefill": ("prefill_tps", ",.0f"),
    "decode": ("decode_tps", ",.1f"),
    "fusion ms": ("fusion_ms", ".1f"),
    "select ms": ("select_ms", ".1f"),
    "peak MB": ("peak_rss_mb", ",.0f"),
    "anon MB": ("anon_mb", ",.0f"),
    "KL": ("kl", ".3f"),
    "PPL": ("ppl", ",.1f"),
}
"""Heading -> figure and its format. Speeds are in tokens a second."""


def _table(title: str, runs: list[Run]) -> Table:
    peers = list(dict.fromkeys(peer for run in runs for peer in run.ratios))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    headings = ["density", *COLUMNS]
    after = headings.index("decode") + 1
    headings[after:after] = ["min-max", "x dense", *(f"x {peer}" for peer in peers)]
    for heading in headings:
        table.add_column(heading, justify="right", style="dim" if heading == "min-max" else "")
    for run in runs:
        cells = {name: _cell(run.figures.get(key), form) for name, (key, form) in COLUMNS.items()}
        low, high = run.spread["decode_tps"]
        cells["density"] = _cell(run.case.density, "g")
        cells["min-max"] = f"{low:,.0f}-{high:,.0f}"
        cells["x dense"] = _cell(run.speedup, ".2f")
        for peer in peers:
            cells[f"x {peer}"] = _cell(run.ratios.get(peer, {}).get("decode"), ".2f")
        table.add_row(escape(_short(run)), *(cells[heading] for heading in headings))
    return table


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _short(run: Run) -> str:
    return Path(run.case.name).name
