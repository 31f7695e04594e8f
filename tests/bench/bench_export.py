"""Time and memory of exports, beside what `glass-export plan` says of them.

    python tests/bench/bench_export.py smollm2
    python tests/bench/bench_export.py random-1.5b random-7b --target onnx --target executorch

Each export is a row, in a process of its own. Of kept results it uses but a model's priors, from
the row before with the same model. A model is anything that `glass-export --model` takes, or a
shape of SHAPES: a checkpoint of random weights, which is made in --scratch and removed after its
rows, unless it is there already. It is exported as int4 with custom operators, streamed, calibrated
on little text and verified with one prompt, see LITTLE. With --no-calibration priors are random, as
those of random weights are: a text takes a pass over all weights for each of its tokens. With
`--set verify.enabled=false` a short answer of the artifact, in a process of its own, stands in the
place of the verification; it is not part of the times.

Peak memory is resident memory, which counts the pages of mapped files: of the process of the
export, of the one that verifies (when streamed), and the largest sum of both. The bound is the
larger of the artifact and four times a layer in float32. Prints a table, then one JSON line with
the times of all stages. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1]))  # what tests share

INTERVAL = 0.2
"""Seconds between two looks at the memory of all processes."""
MB = 1e6
DOWNLOADS = ("native", "models", "hashes")
"""Parts of the cache that are not results."""
STAGES = ("make_plan", "load_model", "settle", "_reference", "capture", "default_passes",
          "verify_artifact", "verify_in_process")  # fmt: skip
SHAPES = {
    "random-1.5b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "random-7b": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
"""Those of Qwen2.5-1.5B and Qwen2.5-7B."""
LITTLE = [
    "selection.mode=fixed", "calibration.tokens=256", "calibration.sequence_length=32",
    "calibration.batch=8", "verify.prompts=1", "verify.tokens=2", "target.dtype=int4",
    "target.custom_ops=true",
]  # fmt: skip


@dataclass
class Watched:
    """Peak resident memory in bytes: of the first process, of the largest other, of all at once."""

    export: int = 0
    verification: int = 0
    together: int = 0

    def look(self, first: psutil.Process) -> None:
        """Look at a process and all that it has started."""
        resident = 0
        try:
            processes = [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                now, peak = (_field(status, name) for name in ("VmRSS:", "VmHWM:"))
            except (OSError, IndexError):  # it has ended
                continue
            resident += now
            kind = "export" if process.pid == first.pid else "verification"
            setattr(self, kind, max(getattr(self, kind), peak))
        self.together = max(self.together, resident)


def _field(status: str, name: str) -> int:
    return int(status.partition(name)[2].split(maxsplit=1)[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--target", action="append", dest="targets")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--stream", action="store_true", help="stream models that are not random")
    parser.add_argument("--no-calibration", action="store_true", help="use random priors")
    parser.add_argument("--scratch", type=Path, help="where checkpoints and artifacts are written")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(row(options.models[0], options.targets[0], options)))
        return
    rows = []
    for model in options.models:
        with source(model, options.scratch) as path, empty_cache(options.scratch):
            for target in options.targets or ["onnx"]:
                rows.append({"model": model, **measured(path, model, target, options)})
                print(json.dumps(rows[-1]), file=sys.stderr)
    Console(width=140).print(table(rows))
    print(json.dumps(rows))


@contextmanager
def source(model: str, scratch: Path | None) -> Iterator[str]:
    """What to export; a random checkpoint that is made here goes when the block ends."""
    there = scratch / model if scratch else Path(model)
    if model not in SHAPES or there.is_dir():
        yield str(there) if model in SHAPES else model
        return
    from random_checkpoint import write_checkpoint
    from transformers import Qwen2Config

    from glass_export.load import release_memory

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        config = Qwen2Config(
            **SHAPES[model], max_position_embeddings=32768, bos_token_id=0, eos_token_id=1
        )
        write_checkpoint(Path(folder) / model, config)
        release_memory()
        yield str(Path(folder) / model)


@contextmanager
def empty_cache(scratch: Path | None) -> Iterator[None]:
    """Keep results in a new folder, but use the downloads and builds that there are."""
    from glass_export.paths import cache_dir

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for name in DOWNLOADS:
            (cache_dir() / name).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).symlink_to((cache_dir() / name).resolve())
        with patch.dict(os.environ, GLASS_EXPORT_CACHE=folder):
            yield


def measured(path: str, model: str, target: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a row in its own process, and watch it."""
    random = model in SHAPES
    sets = [*(LITTLE if random else []), *options.overrides]
    command = [sys.executable, __file__, path, "--row", "--target", target]
    command += [word for value in sets for word in ("--set", value)]
    command += ["--stream"] if random or options.stream else []
    command += ["--no-calibration"] if options.no_calibration else []
    command += ["--scratch", str(options.scratch)] if options.scratch else []
    watched = Watched()
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        first = psutil.Process(process.pid)
        while process.poll() is None:
            watched.look(first)
            time.sleep(INTERVAL)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{model} to {target}: exit code {process.returncode}")
    return {**json.loads(output.splitlines()[-1]), "peak": asdict(watched)}


def timed(name: str, function: Callable[..., Any], log: dict[str, float]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        if callable(result):  # the pass manager: time its runs instead
            return timed(name, result, log)
        log[name] = log.get(name, 0.0) + time.perf_counter() - begin
        return result

    return call


def row(model: str, target: str, options: argparse.Namespace) -> dict[str, Any]:
    """Export in this process."""
    import torch

    from glass_export import pipeline
    from glass_export import plan as planning
    from glass_export.native import library
    from glass_export.recipe import resolve
    from glass_export.targets import load_target

    recipe = resolve(model, [*options.overrides, f"target.name={target}"])
    if recipe.target.custom_ops:
        library("onnxruntime" if target == "onnx" else "executorch")  # built before the clock runs
    if options.no_calibration:
        pipeline.settle = random_priors
    log: dict[str, float] = {}
    plans, shapes = [], []
    for stage in STAGES:
        setattr(pipeline, stage, timed(stage, getattr(pipeline, stage), log))
    pipeline.make_plan = kept(pipeline.make_plan, plans)
    planning.model_shapes = kept(planning.model_shapes, shapes)
    module = load_target(target)
    module.lower = timed("lower", module.lower, log)  # type: ignore[method-assign]
    folder = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        begin, processor = time.perf_counter(), os.times()
        manifest = pipeline.export(recipe, folder / "out", streamed=options.stream or None)
        seconds, after = time.perf_counter() - begin, os.times()
        if not recipe.verify.enabled:
            answer(folder / "out")
    finally:
        shutil.rmtree(folder)
    (plan,), (model_shapes,) = plans, shapes
    planned = plan.seconds - options.no_calibration * plan.stages["settle"].seconds
    return {
        "target": target, "dtype": recipe.target.dtype, "streamed": plan.streamed,
        "threads": torch.get_num_threads(), "calibrated": not options.no_calibration,
        "weights": plan.weights,
        "artifact": sum(file.size for file in manifest.files), "layer": layer_bytes(model_shapes),
        "seconds": seconds, "processor_seconds": sum(after[:4]) - sum(processor[:4]),
        "stages": log,
        "plan": {"artifact": plan.artifact, "peak": plan.peak_memory, "seconds": planned,
                 "stages": {name: asdict(stage) for name, stage in plan.stages.items()}},
    }  # fmt: skip


def answer(artifact: Path) -> None:
    """Have another process answer a prompt, with half of the neurons as a verification does."""
    command = [sys.executable, "-m", "glass_export", "run", str(artifact), "The"]
    command += ["--density", "0.5", "--max-new-tokens", "3"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def random_priors(loaded: Any, sites: list[Any], calibration: Any, selection: Any) -> Any:
    """In place of search.settle: the recipe's rule with priors of random statistics."""
    import numpy as np

    from glass_export.calibrate.statistics import ORDER
    from glass_export.prior import Prior
    from glass_export.search import Settled

    random = np.random.default_rng(0)
    drawn = random.random((len(ORDER), len(sites), sites[0].d_ff), np.float32)
    prior = Prior(
        statistics=dict(zip(ORDER, drawn, strict=True)), tokens=1, seed=0, temperature=1.0,
        model_sha256=loaded.source.sha256,
    )  # fmt: skip
    return Settled(selection, prior, None)


def kept(function: Callable[..., Any], results: list[Any]) -> Callable[..., Any]:
    """The function, whose results are appended to a list, too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        results.append(function(*args, **kwargs))
        return results[-1]

    return call


def layer_bytes(shapes: Any) -> int:
    """A layer of ModelShapes in float32; all have the same size."""
    embeddings = (1 if shapes.tied else 2) * shapes.vocab_size * shapes.d_model
    return int(4 * (shapes.weights - embeddings) / shapes.layers)


def table(rows: list[dict[str, Any]]) -> Table:
    """Measured and planned, a row an export. MB are 10^6 bytes."""
    made = Table(title="exports; the plan's figure after each measured one; memory and sizes in MB")
    for name in ("model", "target", "form", "artifact", "plan", "export", "verification",
                 "together", "plan", "of bound", "minutes", "plan"):  # fmt: skip
        made.add_column(name, justify="left" if name in ("model", "target", "form") else "right")
    for one in rows:
        peak, plan, bound = one["peak"], one["plan"], max(one["artifact"], 4 * one["layer"])
        highest = max(peak["export"], peak["verification"])
        sizes = (one["artifact"], plan["artifact"], peak["export"], peak["verification"],
                 peak["together"], plan["peak"])  # fmt: skip
        made.add_row(
            one["model"], one["target"],
            ", ".join([
                one["dtype"], "streamed" if one["streamed"] else "in memory",
                *([] if one["calibrated"] else ["not calibrated"]),
            ]),
            *(f"{size / MB:,.0f}" for size in sizes),
            f"{highest / bound:.2f}, {peak['together'] / bound:.2f}",
            f"{one['seconds'] / 60:.1f}", f"{plan['seconds'] / 60:.1f}",
        )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
