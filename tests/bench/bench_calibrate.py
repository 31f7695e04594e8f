"""Time and memory of the global prior: ``python tests/bench/bench_calibrate.py [--model M]``."""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace

import torch

from glass_export import log, package
from glass_export.calibrate import calibrate
from glass_export.families import find_ffns
from glass_export.load import load_model
from glass_export.recipe import resolve

BUDGET_S = 90.0  # SmolLM2, 8192 tokens, 2 cores


def current_mb() -> float:
    """Resident memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """Greatest resident memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class Stopwatch:
    """A progress sink that records wall and CPU seconds and the memory peak of every bar."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self._open: list[tuple[str, float, float]] = []

    def start(self, description: str, total: float | None, unit: str) -> Stopwatch:
        self._open.append((description, time.perf_counter(), time.process_time()))
        return self

    def stop(self, task: log.Task) -> None:
        name, wall, cpu = self._open.pop()
        self.rows[name] = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mb": peak_mb(),
        }

    def advance(self, amount: float = 1.0) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = resolve(options.model)
    loaded = load_model(recipe.model)
    start_mb, load_peak_mb = current_mb(), peak_mb()
    watch = Stopwatch()
    log.configure(sink=watch)
    settings = replace(recipe.calibration, tokens=options.tokens)
    prior = calibrate(
        loaded.model,
        find_ffns(loaded.model),
        settings,
        **package.null_prompt(loaded),
        model_sha256=loaded.source.sha256,
        cache=None,
    )
    print(f"{'':28}{'seconds':>9}{'cpu s':>9}{'peak MB':>9}")
    print(f"{'model loaded':28}{'':18}{load_peak_mb:9.0f}  (now {start_mb:.0f})")
    for name, row in watch.rows.items():
        print(f"{name:28}" + "".join(f"{row[c]:9.1f}" for c in ("seconds", "cpu_seconds")), end="")
        print(f"{row['peak_mb']:9.0f}")
    text, statistics = (watch.rows[n] for n in ("writing calibration text", "measuring neurons"))
    seconds = text["seconds"] + statistics["seconds"]
    result = {
        "bench": "calibrate",
        "model": recipe.model.name,
        "tokens": prior.tokens,
        "threads": options.threads,
        "text_s": round(text["seconds"], 1),
        "statistics_s": round(statistics["seconds"], 1),
        "cpu_s": round(text["cpu_seconds"] + statistics["cpu_seconds"], 1),
        "peak_rss_mb": round(peak_mb()),
        "above_model_mb": round(peak_mb() - start_mb),
        "budget_s": BUDGET_S,
        "met": seconds <= BUDGET_S,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
