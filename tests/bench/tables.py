"""The tables of docs/benchmarks.md from what ``glass-export bench --json`` printed.

    python tests/bench/tables.py smollm2.json qwen2.json

One Markdown table for each question, a row for each run, in the order of the files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def rows(document: Row) -> Iterator[Row]:
    """Runs of artifacts, then of peers, with the columns ``model``, ``run``."""
    abouts = {about["name"]: about for about in [*document["artifacts"], *document["peers"]]}
    for run in document["runs"]:
        about = abouts[run["artifact"]]
        label = f"{about['target']} {about['dtype']}, density {run['density']:g}"
        yield {**run, "model": about["model"], "run": label}
    for run in document["peer_runs"]:
        label = f"{run['peer']}, {Path(abouts[run['peer']]['model']).name}"
        yield {**run, "model": document["artifacts"][0]["model"], "run": label}


def plain(name: str, form: str) -> Callable[[Row], str]:
    """Cell of a figure; empty where it was not measured."""
    return lambda row: "" if row.get(name) is None else format(row[name], form)


def spread(name: str, form: str) -> Callable[[Row], str]:
    """Cell of a median with its least and greatest."""

    def cell(row: Row) -> str:
        if row.get(name) is None:
            return ""
        low, high = row["spread"][name]
        return f"{row[name]:{form}} ({low:{form}}-{high:{form}})"

    return cell


def ratio(peer: str, figure: str) -> Callable[[Row], str]:
    """Cell of an artifact's ratio to a peer; above 1 the artifact is better."""

    def cell(row: Row) -> str:
        value = row.get("ratios", {}).get(peer, {}).get(figure)
        return "" if value is None else f"{value:.2f}"

    return cell


TABLES = {
    "decode": {
        "tok/s": spread("decode_tps", ",.0f"),
        "x dense": plain("speedup", ".2f"),
    },
    "prefill": {
        "tok/s": spread("prefill_tps", ",.0f"),
        "TTFT ms": spread("ttft_ms", ",.0f"),
        "fusion ms": plain("fusion_ms", ".1f"),
        "select ms": plain("select_ms", ".1f"),
    },
    "memory": {
        "peak MB": plain("peak_rss_mb", ",.0f"),
        "anonymous MB": plain("anon_mb", ",.0f"),
        "base MB": plain("base_rss_mb", ",.0f"),
    },
    "quality": {
        "KL": plain("kl", ".3f"),
        "PPL": plain("ppl", ",.1f"),
        "tokens": plain("scored_tokens", "d"),
    },
}


def table(columns: dict[str, Callable[[Row], str]], runs: list[Row]) -> str:
    """Markdown of the runs that have a cell; a model is named in the first of its rows."""
    lines = [f"| | run | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    last = None
    for run in runs:
        cells = [cell(run) for cell in columns.values()]
        if any(cells):
            lines.append(
                f"| {'' if run['model'] == last else run['model']} | {run['run']} | "
                f"{' | '.join(cells)} |"
            )
            last = run["model"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="its last line is the JSON document")
    documents = [json.loads(p.read_text().splitlines()[-1]) for p in parser.parse_args().results]
    runs = [row for document in documents for row in rows(document)]
    peers = dict.fromkeys(peer for run in runs for peer in run.get("ratios", {}))
    for name, columns in TABLES.items():
        compared = peers if name in ("decode", "prefill") else {}
        every = {**columns, **{f"x {peer}": ratio(peer, name) for peer in compared}}
        print(f"{name}\n\n{table(every, runs)}\n")


if __name__ == "__main__":
    main()
