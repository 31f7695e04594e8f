"""The constants of glass_export/plan/costs.py, on this machine.

    python tests/bench/bench_costs.py

Rates are of one core's time, of matrices [8960,1536] like those of Qwen2.5-1.5B.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch.nn import functional

from glass_export.artifact.reader import sha256
from glass_export.bundles import quantise_rows
from glass_export.nn.streamed import product
from glass_export.plan import costs
from glass_export.safetensors_file import stored_tensors
from glass_export.targets.rounding import RoundedRows, row_codec

ROWS, DEPTH, REPEATS = 8960, 1536, 4


def rate(work: Callable[[], object], amount: float) -> float:
    """The best of a few runs, in units of ``amount`` a second of processor time."""
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return amount / best


def main() -> None:
    torch.set_num_threads(1)
    weight = torch.randn(ROWS, DEPTH) * 0.02
    one, many, size = torch.randn(1, DEPTH), torch.randn(64, DEPTH), ROWS * DEPTH
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as scratch:
        path = Path(folder) / "model.safetensors"
        save_file({"weight": weight.bfloat16()}, path)
        stored = stored_tensors(path)["weight"]
        rounded = RoundedRows(stored, row_codec(DEPTH, "int4"), scratch)
        measured = {
            "READ_RATE": (rate(lambda: product(one, stored), size), costs.READ_RATE),
            "ROUNDED_READ_RATE": (
                rate(lambda: product(one, rounded), size),
                costs.ROUNDED_READ_RATE,
            ),
            "RESIDENT_RATE": (
                rate(lambda: functional.linear(one, weight), size),
                costs.RESIDENT_RATE,
            ),
            "PRODUCT_RATE": (
                rate(lambda: functional.linear(many, weight), 64 * size),
                costs.PRODUCT_RATE,
            ),
            "HASH_RATE": (rate(lambda: sha256(path), path.stat().st_size), costs.HASH_RATE),
        }
    for form in ("int8", "int4"):
        found = rate(lambda form=form: quantise_rows(weight.numpy(), form), size)
        measured[f"QUANTISE_RATE {form}"] = (found, costs.QUANTISE_RATE[form])
    table = Table("constant", "measured, millions", "in costs.py")
    for name, (got, assumed) in measured.items():
        table.add_row(name, f"{got / 1e6:,.0f}", f"{assumed / 1e6:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
