"""Decode speed and memory of an artifact, sparse against its own dense decode.

    python tests/bench/bench_decode.py artifacts/smollm2-onnx --density 0.5,0.3

Densities take turns in short blocks within one process, so that drifts of the machine meet all of
them; figures are medians over all steps, spread is the quartiles. Prints a table, then a JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from glass_export.artifact import Artifact
from glass_export.runtime.engines import open_backend
from glass_export.spec import kept_neurons

BLOCK = 6
"""Timed steps before the next density takes its turn; one more before them warms up."""


def measure(
    folder: Path, densities: list[float], context: int, steps: int, threads: int | None
) -> dict[float, list[float]]:
    """Seconds of every timed step, by density."""
    artifact = Artifact.open(folder)
    backend = open_backend(artifact, threads=threads, max_length=context + BLOCK + 1)
    dims, rng = backend.dims, np.random.default_rng(0)
    chosen = {
        d: np.sort(rng.random((dims.layers, dims.d_ff)).argsort(1)[:, :k], 1).astype(np.int32)
        for d in densities
        if (k := kept_neurons(d, dims.d_ff)) < dims.d_ff
    }
    tokens = rng.integers(100, min(dims.vocab_size, 10_000), context)
    for begin in range(0, context, backend.prefill_chunk):
        part = tokens[begin : begin + backend.prefill_chunk]
        backend.prefill(part, begin, np.ones(len(part), np.float32), np.array([len(part) - 1]))
    times: dict[float, list[float]] = {d: [] for d in densities}
    while len(times[densities[-1]]) < steps:
        for density in densities:
            backend.select(chosen.get(density))
            backend.decode(int(tokens[0]), context)
            for step in range(1, BLOCK + 1):
                begin_time = time.perf_counter()
                backend.decode(int(tokens[step]), context + step)
                times[density].append(time.perf_counter() - begin_time)
    return times


MEMORY_SCRIPT = """
import sys
import numpy, onnxruntime
def status(key):
    lines = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
    return int(lines[key].split()[0]) / 1024
from glass_export.runtime.session import Session
before = status("VmRSS")
session = Session.open(sys.argv[1], max_length=int(sys.argv[3]) + 64)
text = "one two three four " * int(sys.argv[3])
prompt = session.text.tokenizer.decode(session.text.tokenizer.encode(text).ids[: int(sys.argv[3])])
session.generate(prompt, max_new_tokens=32, density=float(sys.argv[2]))
print(before, status("VmHWM"))
"""


def session_memory(folder: Path, density: float, context: int) -> tuple[float, float]:
    """MB of a fresh process before a session is opened, and its peak after an answer."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(folder), str(density), str(context)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(output[0]), float(output[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--density", default="0.5,0.3")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()

    densities = [1.0, *(float(d) for d in options.density.split(","))]
    times = measure(options.artifact, densities, options.context, options.steps, options.threads)
    manifest = Artifact.open(options.artifact).manifest
    weights = sum(t.nbytes for t in manifest.target.tensors) / 2**20
    before, peak = session_memory(options.artifact, densities[1], options.context)

    table = Table(title=f"{manifest.model.name}: decode, context {options.context}")
    for column in ("density", "ms/token", "quartiles", "tok/s", "x dense", "steps"):
        table.add_column(column, justify="right")
    dense, runs = statistics.median(times[1.0]), []
    for density, samples in times.items():
        low, middle, high = (1e3 * q for q in statistics.quantiles(samples, n=4))
        ratio = 1e3 * dense / middle
        runs.append({
            "density": density, "ms": middle, "ms_quartiles": [low, high],
            "decode_tps": 1e3 / middle, "speedup": ratio, "steps": len(samples),
        })  # fmt: skip
        table.add_row(
            f"{density:g}", f"{middle:.2f}", f"{low:.2f}-{high:.2f}", f"{1e3 / middle:.1f}",
            f"{ratio:.2f}", str(len(samples)),
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(
        f"memory: weights {weights:.0f} MB, session {peak - before:.0f} MB "
        f"({(peak - before) / weights:.2f}x), whole process {peak:.0f} MB"
    )
    memory = {"weights_mb": weights, "session_mb": peak - before, "process_mb": peak}
    print(json.dumps({"artifact": manifest.model.name, "context": options.context,
                      "runs": runs, "memory": memory}))  # fmt: skip


if __name__ == "__main__":
    main()
