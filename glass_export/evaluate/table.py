"""An evaluation as tables of text. Neither torch nor transformers is needed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from glass_export.evaluate.summary import Evaluation, Mean, MethodSummary


def headline(evaluation: Evaluation) -> str:
    """What was evaluated, and on what: one line."""
    return (
        f"{evaluation.subject}: {evaluation.where}; {evaluation.texts} answers to "
        f"{evaluation.prompts}, {evaluation.tokens:,} tokens compared"
    )


def rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the main table; the dense model comes first.

    ``KL`` is in nats a token, ``overlap`` with the oracle's neurons, speeds are in tokens a second.
    Columns that would be empty are left out.
    """
    base = evaluation.baseline
    headings = ["method", "KL", f"x {base}", "PPL", "overlap", "decode tok/s"]
    cells = [["dense", "0", "", pair(evaluation.dense_ppl, 2), "", _speed(evaluation)]]
    for row in evaluation.methods:
        if row.method != "dense":
            cells.append(_cells(row))
    shown = [i for i in range(len(headings)) if any(line[i] for line in cells)]
    return [headings[i] for i in shown], [[line[i] for i in shown] for line in cells]


def domain_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table of KL by domain of the prompt."""
    compared = [row for row in evaluation.methods if row.method != "dense"]
    domains = list(dict.fromkeys(domain for row in compared for domain in row.domains))
    cells = [[row.label, *(f"{row.domains[d]:.3f}" for d in domains)] for row in compared]
    return ["KL by domain", *domains], cells


def tables(evaluation: Evaluation) -> list[Table]:
    """The main table and, when there are several domains, that of the domains."""
    found = [_table(*rows(evaluation))]
    headings, cells = domain_rows(evaluation)
    if len(headings) > 2:
        found.append(_table(headings, cells))
    return found


def pair(mean: Mean, digits: int) -> str:
    """A mean and its standard error."""
    return f"{mean.value:.{digits}f} ± {mean.error:.{digits}f}"


def _cells(row: MethodSummary) -> list[str]:
    share = sum(row.overlap) / len(row.overlap)
    return [
        row.label,
        pair(row.kl, 3),
        "" if row.ratio is None else pair(row.ratio, 3),
        pair(row.ppl, 2),
        f"{share:.1%}",
        "" if row.decode_tps is None else f"{row.decode_tps:,.1f}",
    ]


def _speed(evaluation: Evaluation) -> str:
    return "" if evaluation.dense_tps is None else f"{evaluation.dense_tps:,.1f}"


def _table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if index else "left", no_wrap=True)
    for line in cells:
        table.add_row(*map(escape, line))
    return table
