"""Time and memory of an export, stage by stage.

    python tests/bench/bench_export.py smollm2

Every stage of the real pipeline is timed from outside; peak memory is that of the process. Prints a
table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glass_export import pipeline
from glass_export.recipe import resolve
from glass_export.targets import load_target

STAGES = ("load_model", "settle", "make_reference", "capture", "default_passes",
          "verify_artifact")  # fmt: skip


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(name: str, function: Callable[..., Any], log: dict[str, dict[str, float]]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        if callable(result):  # the pass manager: time its runs instead
            return timed(name, result, log)
        entry = log.setdefault(name, {"seconds": 0.0, "peak_mb": 0.0})
        entry["seconds"] += time.perf_counter() - begin
        entry["peak_mb"] = peak_mb()
        return result

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--stream", action="store_true", help="leave the weights in their files")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    log: dict[str, dict[str, float]] = {"import": {"seconds": 0.0, "peak_mb": peak_mb()}}
    for stage in STAGES:
        setattr(pipeline, stage, timed(stage, getattr(pipeline, stage), log))
    target = load_target(options.target)
    target.lower = timed("lower", target.lower, log)  # type: ignore[method-assign]  # a module

    recipe = resolve(options.model, [*options.overrides, f'target.name="{options.target}"'])
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        output = options.output or Path(scratch) / "artifact"
        manifest = pipeline.export(recipe, output, streamed=options.stream or None)
    total = time.perf_counter() - begin

    graphs = set(manifest.target.graphs.values())  # where weights are in the graphs' own file
    stored = sum(t.nbytes for t in manifest.target.tensors)
    weights = (stored or sum(f.size for f in manifest.files if f.path in graphs)) / 2**20
    table = Table(title=f"export of {manifest.model.name} to {options.target}")
    for column in ("stage", "seconds", "peak MB so far"):
        table.add_column(column, justify="right")
    for stage, entry in log.items():
        table.add_row(stage, f"{entry['seconds']:.1f}", f"{entry['peak_mb']:.0f}")
    console = Console()
    console.print(table)
    lowering = sum(log[s]["seconds"] for s in ("capture", "default_passes", "lower"))
    console.print(
        f"total {total:.1f} s, capture and lowering {lowering:.1f} s; peak {peak_mb():.0f} MB = "
        f"{peak_mb() / weights:.2f}x the {weights:.0f} MB of weights"
    )
    print(json.dumps({
        "model": manifest.model.name, "target": options.target, "seconds": total,
        "capture_and_lowering_seconds": lowering, "stages": log, "weights_mb": weights,
        "peak_mb": peak_mb(), "peak_ratio": peak_mb() / weights,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
