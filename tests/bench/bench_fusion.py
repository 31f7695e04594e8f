"""Time of rank fusion and top-K for all layers: ``python tests/bench/bench_fusion.py``."""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from glass_export.fusion import Priors, select_neurons
from glass_export.recipe import SelectionRecipe
from glass_export.scoring import FloatArray, ranks, top_k

SHAPES = {"smollm2": (30, 1536), "qwen2": (24, 4864), "gemma3": (18, 2048)}
BUDGET_MS = 2.0  # for the qwen2 shape


@dataclass(frozen=True, slots=True)
class Sums:
    """Local statistics of an imaginary prompt."""

    abs_sum: FloatArray
    sq_sum: FloatArray
    tokens: float


def median_ms(step: Callable[[], object], repeats: int) -> float:
    """Median wall time of ``step`` in milliseconds, after a tenth as many warm-up calls."""
    times = []
    for index in range(-repeats // 10, repeats):
        start = time.perf_counter()
        step()
        if index >= 0:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measure(shape: tuple[int, int], repeats: int) -> dict[str, float]:
    """Milliseconds of every step and fusion for one model's [L,F], at density 0.5."""
    rng = np.random.default_rng(0)
    h = np.abs(rng.standard_normal((2, *shape)) ** 3).astype(np.float32)
    sums = Sums(h[0] * 20, h[0] ** 2 * 20, 20.0)
    priors = Priors({"A": h[1], "G": h[1] ** 2, "F": h[0] ** 2})
    priors.ranks("A")  # a model's first choice makes these
    priors.weights(0.5)
    keep = shape[1] // 2
    shrinkage = SelectionRecipe(fusion="shrinkage", local="squared", prior="G")
    recipes = {
        "borda": SelectionRecipe(mode="paper-a"),
        "shrinkage": shrinkage,
        "sensitive": replace(shrinkage, sensitivity=0.5),
        "local": SelectionRecipe(mode="griffin"),
        "global": SelectionRecipe(fusion="global"),
    }
    result = {"ranks": median_ms(lambda: ranks(h[0]), repeats)}
    result["top_k"] = median_ms(lambda: top_k(h[0], keep), repeats)
    for name, recipe in recipes.items():
        step = functools.partial(select_neurons, sums, priors, recipe, keep)
        result[name] = median_ms(step, repeats)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    results = {name: measure(shape, repeats) for name, shape in SHAPES.items()}
    columns = list(next(iter(results.values())))
    print(f"{'median ms':12}" + "".join(f"{c:>11}" for c in columns))
    for name, row in results.items():
        print(f"{name:12}" + "".join(f"{row[c]:11.3f}" for c in columns))
    met = results["qwen2"]["borda"] <= BUDGET_MS
    print(json.dumps({"bench": "fusion", "median_ms": results, "budget_ms": BUDGET_MS, "met": met}))


if __name__ == "__main__":
    main()
