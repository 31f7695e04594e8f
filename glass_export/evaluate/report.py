"""An evaluation as one HTML file: tables and charts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from glass_export.chart_style import INK, is_installed
from glass_export.errors import EvaluationError
from glass_export.evaluate.charts import Chart, charts
from glass_export.evaluate.summary import Evaluation
from glass_export.evaluate.table import domain_rows, headline, rows

_CSS = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: {INK};
  background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
p, dl {{ margin: .4rem 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }}
th, td {{ padding: .28rem .8rem .28rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e4e4; font-weight: normal; }}
thead th {{ border-bottom: 1.5px solid {INK}; font-weight: 600; }}
th:first-child {{ text-align: left; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; }}
dt {{ color: #666; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
figure {{ margin: 0; }}
svg {{ width: 100%; height: auto; }}
@media print {{
  body {{ margin: 0; max-width: none; font-size: 11px; }}
  section {{ break-inside: avoid; }}
}}
"""
_READING = (
    "KL is KL(dense || sparse) over the whole vocabulary, in nats a token, while the sparse model "
    "is fed the dense model's own answers; PPL is the perplexity of those answers. Every answer "
    "counts once; ± is one standard error over answers, that of a ratio paired by answer. Overlap "
    "is the share of the first chosen neurons that the oracle, which knows the answer, chose too."
)


def check(path: Path) -> None:
    """Whether a report can be written to ``path``; called before anything is measured.

    Raises:
        EvaluationError: matplotlib is missing, the file is not named .html, or its folder is
            missing.
    """
    if not is_installed():
        raise EvaluationError(
            "--report needs matplotlib, which is not installed; "
            "run: pip install 'glass-export[bench]'"
        )
    if path.suffix.lower() not in (".html", ".htm"):
        raise EvaluationError(f"--report {path}: got {path.suffix!r}, expected .html")
    if not path.parent.is_dir():
        raise EvaluationError(f"--report {path}: {path.parent} is not a folder; make it first")


def write(evaluation: Evaluation, path: Path) -> None:
    """Write the report. Raises OSError when the file cannot be written."""
    path.write_text(page(evaluation), encoding="utf-8")


def page(evaluation: Evaluation) -> str:
    """The report as an HTML document."""
    title = f"Fidelity of sparse decoding: {Path(evaluation.subject).name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(headline(evaluation))}.</p>",
        _section("Methods", _table(*rows(evaluation)) + f"<p>{escape(_READING)}</p>"),
        *(_section(chart.title, _figure(chart)) for chart in charts(evaluation)),
        _section("KL by domain", _table(*_domains(evaluation))),
        _section("Settings", _facts(evaluation)),
    ]
    head = '<meta charset="utf-8"/><meta name="viewport" content="width=device-width"/>'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{escape(title)}</title>'
        f"<style>{_CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def _domains(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    headings, cells = domain_rows(evaluation)
    return ["method", *headings[1:]], cells


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in lines
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _figure(chart: Chart) -> str:
    label = escape(chart.alt, quote=True)
    return f'<figure role="img" aria-label="{label}">{chart.svg}</figure>'


def _facts(evaluation: Evaluation) -> str:
    facts: dict[str, object] = {
        "subject": evaluation.subject,
        "evaluated": evaluation.where,
        "prompts": evaluation.prompts,
        "answers": evaluation.texts,
        "tokens compared": f"{evaluation.tokens:,}",
        "baseline": evaluation.baseline or "none",
        **{name.replace("_", " "): value for name, value in evaluation.settings.items()},
        "versions": ", ".join(f"{name} {v}" for name, v in evaluation.versions.items()),
    }
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl>{items}</dl>"
