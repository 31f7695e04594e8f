"""Speed against quality as a picture: one line an artifact, one point a density."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glass_export.bench.results import Results, Run
from glass_export.chart_style import COLOURS, INK, dress, is_installed
from glass_export.errors import BenchError

FORMATS = (".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """Whether a chart can be written to ``path``; called before anything is measured.

    Raises:
        BenchError: matplotlib is missing, the format is unknown, or there is no such folder.
    """
    if not is_installed():
        raise BenchError(
            "--chart needs matplotlib, which is not installed; "
            "run: pip install 'glass-export[bench]'"
        )
    if path.suffix.lower() not in FORMATS:
        raise BenchError(f"--chart {path}: got {path.suffix!r}, expected {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise BenchError(f"--chart {path}: {path.parent} is not a folder; make it first")


def draw(results: Results, path: Path) -> None:
    """Draw decode speed against KL, for the first number of threads and the first context."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = results.settings
    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _artifact_lines(axes, results)
    _peer_points(axes, results)
    dress(axes)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    axes.set_title(
        f"Decode speed against quality\n{settings.threads[0]} threads, "
        f"context {settings.contexts[0]}",
        loc="left", color=INK, fontsize=11,
    )  # fmt: skip
    named = results.reference
    reference = "the artifact's dense decode" if named is None else f"{Path(named).name}, dense"
    axes.set_xlabel(f"KL divergence from {reference}, nats a token (less is better)", color=INK)
    axes.set_ylabel("decode, tokens a second (more is better)", color=INK)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=9)
    figure.savefig(path)


def _shown(runs: Iterable[Run], results: Results, name: str) -> list[Run]:
    settings = results.settings
    wanted = (name, settings.threads[0], settings.contexts[0])
    return [r for r in runs if (r.case.name, r.case.threads, r.case.context) == wanted]


def _artifact_lines(axes: Any, results: Results) -> None:
    names = dict.fromkeys(run.case.name for run in results.artifact_runs)
    for index, name in enumerate(names):
        runs = [r for r in _shown(results.artifact_runs, results, name) if _known(r)]
        xs = [r.figures["kl"] for r in runs]
        speeds = [(r.figures["decode_tps"] or 0.0, r.spread["decode_tps"]) for r in runs]
        ys = [speed for speed, _ in speeds]
        errors = [[y - low for y, (low, _) in speeds], [high - y for y, (_, high) in speeds]]
        colour = COLOURS[index % len(COLOURS)]
        axes.errorbar(
            xs, ys, yerr=errors, color=colour, marker="o", markersize=7, linewidth=2,
            elinewidth=1.2, capsize=3, label=Path(name).name, zorder=3,
        )  # fmt: skip
        for run, x, y in zip(runs, xs, ys, strict=True):
            axes.annotate(
                f"density {run.case.density:g}", (x, y), xytext=(0, 10), ha="center",
                textcoords="offset points", color=colour, fontsize=8,
            )  # fmt: skip


def _peer_points(axes: Any, results: Results) -> None:
    for index, name in enumerate(dict.fromkeys(run.case.name for run in results.peer_runs)):
        colour = COLOURS[-1 - index % len(COLOURS)]
        for run in _shown(results.peer_runs, results, name):
            if _known(run):
                axes.plot(
                    [run.figures["kl"]], [run.figures["decode_tps"]], marker="D", markersize=8,
                    linestyle="none", color=colour, label=name, zorder=4,
                )  # fmt: skip


def _known(run: Run) -> bool:
    return run.figures["kl"] is not None
