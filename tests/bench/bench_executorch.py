"""An ExecuTorch artifact against the dense XNNPACK program of the same model.

    python tests/bench/bench_executorch.py artifacts/smollm2-executorch --density 1.0,0.5,0.3

The dense program (see dense_xnnpack.py) is exported once beside the artifact, unless --dense names
one; with --no-dense the artifact's own dense decode is the bar. All run in one process and take
turns in short blocks, so that drifts of the machine meet all of them; figures are medians over all
steps, spread is the quartiles. Memory is the anonymous memory that loading adds to a fresh process.
Prints a table, then a JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers llama::*)
from executorch.runtime import Method, Runtime
from rich.console import Console
from rich.table import Table

from glass_export.artifact import Artifact
from glass_export.runtime.engines import open_backend
from glass_export.spec import kept_neurons

BLOCK = 6
"""Timed steps before the next one takes its turn; one more before them warms up."""
DENSE = "dense XNNPACK"

MEMORY_SCRIPT = """
import sys
from pathlib import Path
import executorch.kernels.quantized
from executorch.extension.llm.custom_ops import custom_ops
from executorch.runtime import Runtime
def anonymous():
    lines = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024
path = Path(sys.argv[1])
if path.is_dir():
    from glass_export.artifact import Artifact
    from glass_export.runtime.engines import open_backend
    import glass_export.runtime.executorch
    artifact = Artifact.open(path, check="size")
    before = anonymous()
    keep = open_backend(artifact)
else:
    runtime = Runtime.get()
    before = anonymous()
    program = runtime.load_program(path)
    keep = program.load_method("forward")
print(anonymous() - before)
"""


def loaded_memory(path: Path) -> float:
    """MB of anonymous memory that loading a program or an artifact adds to a fresh process."""
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def measure(
    folder: Path,
    dense: Path | None,
    densities: list[float],
    context: int,
    steps: int,
    threads: int | None,
) -> dict[str, list[float]]:
    """Seconds of every timed step, by what ran."""
    backend = open_backend(Artifact.open(folder), threads=threads)
    dims, rng = backend.dims, np.random.default_rng(0)
    tokens = rng.integers(100, min(dims.vocab_size, 10_000), context + BLOCK + 1)
    for begin in range(0, context, backend.prefill_chunk):
        part = tokens[begin : min(context, begin + backend.prefill_chunk)]
        backend.prefill(part, begin, np.ones(len(part), np.float32), np.zeros(0, np.int64))

    def sparse(density: float) -> Callable[[int, int], object]:
        kept = kept_neurons(density, dims.d_ff)
        order = rng.random((dims.layers, dims.d_ff)).argsort(1)[:, :kept]
        chosen = None if kept == dims.d_ff else np.sort(order, 1).astype(np.int32)

        def run(token: int, position: int) -> object:
            if position == context:
                backend.select(chosen)
            return backend.decode(token, position)

        return run

    runs = {f"density {d:g}": sparse(d) for d in densities}
    if dense is not None:
        method = Runtime.get().load_program(dense).load_method("forward")
        for position in range(context):
            _dense_step(method, int(tokens[position]), position)
        runs = {DENSE: lambda token, position: _dense_step(method, token, position), **runs}
    times: dict[str, list[float]] = {name: [] for name in runs}
    while min(map(len, times.values())) < steps:
        for name, run in runs.items():
            run(int(tokens[context]), context)
            for step in range(1, BLOCK + 1):
                begin_time = time.perf_counter()
                run(int(tokens[context + step]), context + step)
                times[name].append(time.perf_counter() - begin_time)
    return times


def _dense_step(method: Method, token: int, position: int) -> object:
    inputs = [torch.tensor([[token]]), torch.tensor([position])]
    return method._method.call(inputs, clone_outputs=False)  # as our own runtime does


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--dense", type=Path, default=None, help="dense .pte; default: made anew")
    parser.add_argument("--no-dense", action="store_true")
    parser.add_argument("--density", default="1.0,0.5,0.3")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()

    manifest = Artifact.open(options.artifact).manifest
    beside = options.artifact.with_name(f"{options.artifact.name}-dense.pte")
    dense = None if options.no_dense else options.dense or beside
    if dense is not None and not dense.exists():
        script = Path(__file__).with_name("dense_xnnpack.py")
        code = (
            f"import sys; sys.path.insert(0, {str(script.parent)!r}); import dense_xnnpack as d; "
            f"from pathlib import Path; d.export({manifest.model.name!r}, "
            f"{manifest.target.dtype!r}, {manifest.model.max_length}, Path({str(dense)!r}))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    densities = [float(d) for d in options.density.split(",")]
    times = measure(
        options.artifact, dense, densities, options.context, options.steps, options.threads
    )
    files = [options.artifact, *([dense] if dense else [])]
    sizes = [(path / "model.pte" if path.is_dir() else path).stat().st_size for path in files]
    memory = [loaded_memory(path) for path in files]

    bar_name = next(iter(times))
    table = Table(title=f"{manifest.model.name} {manifest.target.dtype}: decode")
    for column in ("", "ms/token", "quartiles", "tok/s", f"x {bar_name}", "steps"):
        table.add_column(column, justify="right")
    bar, runs = statistics.median(times[bar_name]), []
    for name, samples in times.items():
        low, middle, high = (1e3 * q for q in statistics.quantiles(samples, n=4))
        runs.append({"run": name, "ms": middle, "ms_quartiles": [low, high],
                     "decode_tps": 1e3 / middle, "speedup": 1e3 * bar / middle,
                     "steps": len(samples)})  # fmt: skip
        table.add_row(name, f"{middle:.2f}", f"{low:.2f}-{high:.2f}", f"{1e3 / middle:.1f}",
                      f"{1e3 * bar / middle:.2f}", str(len(samples)))  # fmt: skip
    console = Console()
    console.print(table)
    for path, size, used in zip(files, sizes, memory, strict=True):
        console.print(
            f"{path.name}: program {size / 2**20:.1f} MB ({size / sizes[-1]:.3f}x), anonymous "
            f"memory after loading {used:.0f} MB ({used / memory[-1]:.2f}x)"
        )
    print(json.dumps({"artifact": manifest.model.name, "dtype": manifest.target.dtype,
                      "context": options.context, "runs": runs, "bytes": sizes,
                      "anonymous_mb": memory}))  # fmt: skip


if __name__ == "__main__":
    main()
