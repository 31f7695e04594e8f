"""Charts of an evaluation, as SVG elements to put into a page. Needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glass_export.chart_style import COLOURS, INK, MORE_COLOURS, dress
from glass_export.evaluate.summary import WINDOW, Evaluation, MethodSummary

_COLOURS = (*COLOURS, *MORE_COLOURS)
_STYLES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "v")
_BARS = 10
"""Most methods that a chart of bars shows."""
_MANY = 14
"""Methods that a legend holds in one column."""

Rows = Sequence[MethodSummary]


@dataclass(frozen=True, slots=True)
class Chart:
    """``svg`` is an SVG element whose ids are unique in a page; ``alt`` says what it shows."""

    title: str
    alt: str
    svg: str


def charts(evaluation: Evaluation) -> list[Chart]:
    """All charts that the evaluation has data for; a dense row is in none of them."""
    rows = [row for row in evaluation.methods if row.density != 1.0]
    if not rows:
        return []
    found = [_along(rows), _layers(rows)]
    if len(rows[0].domains) > 1:
        found.append(_domains(rows))
    if evaluation.dense_tps is not None:
        found.append(_front(rows, evaluation.dense_tps))
    elif len({row.density for row in rows}) > 1:
        found.append(_densities(rows))
    return found


def _along(rows: Rows) -> Chart:
    def draw(axes: Any) -> None:
        for row, look in _looks(rows):
            places = [(i + 0.5) * WINDOW for i in range(len(row.curve))]
            axes.plot(places, row.curve, **look | {"markersize": 3})
        axes.set_xlabel("tokens of the answer")
        axes.set_ylabel("KL, nats a token")

    return _chart("along", "KL along the answer", _best(rows, "along the answer"), draw)


def _layers(rows: Rows) -> Chart:
    """A line for each first choice that is not the oracle's own; refreshes come after it."""
    first = {row.overlap: row for row in reversed(rows) if row.method != "oracle"}

    def draw(axes: Any) -> None:
        for row, look in _looks(rows):
            if first.get(row.overlap) is row:
                axes.plot(range(len(row.overlap)), row.overlap, **look | {"marker": ""})
        axes.set_xlabel("layer")
        axes.set_ylabel("share that the oracle chose too")

    means = [f"{r.label} {sum(r.overlap) / len(r.overlap):.0%}" for r in reversed(first.values())]
    alt = f"Mean overlap with the oracle over layers: {', '.join(means)}."
    return _chart("layers", "Overlap with the oracle by layer", alt, draw, zero=False)


def _domains(rows: Rows) -> Chart:
    closest = {row.label for row in sorted(rows, key=lambda row: row.kl.value)[:_BARS]}
    domains = list(rows[0].domains)

    def draw(axes: Any) -> None:
        width = 0.8 / len(closest)
        shown = [(row, look) for row, look in _looks(rows) if row.label in closest]
        for index, (row, look) in enumerate(shown):
            places = [i - 0.4 + (index + 0.5) * width for i in range(len(domains))]
            heights = [row.domains[domain] for domain in domains]
            shade = (1.0, 0.65, 0.45, 0.3)[_STYLES.index(look["linestyle"])]
            axes.bar(
                places, heights, width * 0.92, color=look["color"], alpha=shade, label=row.label
            )
        axes.set_xticks(range(len(domains)), domains)
        axes.set_ylabel("KL, nats a token")

    title = "KL by domain of the prompt"
    title += f", the {_BARS} closest methods" if len(rows) > _BARS else ""
    return _chart("domains", title, _best(rows, "by domain"), draw)


def _front(rows: Rows, dense_tps: float) -> Chart:
    def draw(axes: Any) -> None:
        axes.plot([0], [dense_tps], "D", color=INK, markersize=7, linestyle="none", label="dense")
        for row, look in _looks(rows):
            changed = {"markersize": 8, "linestyle": "none"}
            axes.plot([row.kl.value], [row.decode_tps], **look | changed)
        axes.set_xlabel("KL, nats a token (less is better)")
        axes.set_ylabel("decode, tokens a second (more is better)")
        axes.set_xlim(left=-0.02 * max(row.kl.value for row in rows))

    speeds = [f"{r.label} {r.decode_tps:.1f} at KL {r.kl.value:.2f}" for r in rows]
    alt = f"Tokens a second: dense {dense_tps:.1f}, {', '.join(speeds)}."
    return _chart("front", "Speed against fidelity", alt, draw)


def _densities(rows: Rows) -> Chart:
    groups: dict[str, list[MethodSummary]] = {}
    for row in rows:
        groups.setdefault(row.label.replace(f" {row.density:g}", "", 1), []).append(row)

    def draw(axes: Any) -> None:
        looks = _looks([members[0] for members in groups.values()])
        for (name, members), (_, look) in zip(groups.items(), looks, strict=True):
            ordered = sorted(members, key=lambda row: row.density)
            axes.errorbar(
                [row.density for row in ordered],
                [row.kl.value for row in ordered],
                yerr=[row.kl.error for row in ordered],
                **look | {"label": name, "capsize": 3},
            )
        axes.set_xlabel("density: share of FFN neurons")
        axes.set_ylabel("KL, nats a token (less is better)")

    return _chart("densities", "KL against density", _best(rows, "at each density"), draw)


def _best(rows: Rows, where: str) -> str:
    """A sentence for who cannot see the chart: all means, best first."""
    ordered = sorted(rows, key=lambda row: row.kl.value)
    listed = ", ".join(f"{row.label} {row.kl.value:.3f}" for row in ordered)
    return f"KL {where}. Means, best first: {listed}."


def _chart(
    name: str, title: str, alt: str, draw: Callable[[Any], None], *, zero: bool = True
) -> Chart:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": name, "axes.labelcolor": INK, "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.margins(y=0.08)
        draw(axes)
        dress(axes)
        if zero:
            axes.set_ylim(bottom=0)
        columns = -(-len(axes.get_legend_handles_labels()[0]) // _MANY)
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, ncols=columns)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return Chart(title, alt, _inline(target.getvalue(), name))


def _inline(document: str, name: str) -> str:
    """The svg element of a document, its ids begun with ``name`` so that pages can hold several."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", element)


def _looks(rows: Rows) -> Iterator[tuple[MethodSummary, dict[str, Any]]]:
    """Every row with its look: a colour for each method, line and marker for each of its rows."""
    methods: dict[str, int] = {}
    for row in rows:
        variant = methods[row.method] = methods.get(row.method, -1) + 1
        colour = list(methods).index(row.method)
        yield (
            row,
            {
                "color": _COLOURS[colour % len(_COLOURS)],
                "linestyle": _STYLES[variant % len(_STYLES)],
                "marker": _MARKERS[variant % len(_MARKERS)],
                "markersize": 5,
                "label": row.label,
            },
        )
