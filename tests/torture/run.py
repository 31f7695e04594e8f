"""Everything of ``make torture-load`` on artifacts of a tiny model, which are exported first:
``run.py --generations N --step N``.

Prints what each program prints, and ends with exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import native_build
from tiny_models import CONTEXT, tiny_checkpoint

from glass_export.pipeline import export
from glass_export.recipe import resolve

SETTINGS = (
    "calibration.tokens=512", "calibration.sequence_length=32", "calibration.batch=8",
    f"export.max_length={CONTEXT}", "export.prefill_chunk=32", "verify.tokens=16",
    "selection.mode=fixed",
)  # fmt: skip


def artifacts(folder: Path) -> dict[str, Path]:
    """A tiny Llama for each target."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    tiny_checkpoint("llama", checkpoint)
    made = {target: folder / target for target in ("onnx", "executorch")}
    for target, output in made.items():
        export(resolve(str(checkpoint), [*SETTINGS, f"target.name={target}"]), output)
    return made


def commands(made: dict[str, Path], generations: int, step: int) -> list[list[str]]:
    """The programs, with their arguments."""
    count, native = str(generations), str(made["executorch"])
    release = native_build.everything() / "tests"
    asan = native_build.sanitized("address,undefined") / "tests"
    tsan = native_build.sanitized("thread") / "tests"
    python = [sys.executable, str(Path(__file__).with_name("generations.py"))]
    return [
        *([*python, str(path), "--generations", count] for path in made.values()),
        [str(release / "torture_fake"), native, count, "4"],
        [str(release / "torture_glass"), native, count, "2"],
        *([str(build / "torture_fake"), native, count, "4"] for build in (asan, tsan)),
        [str(asan / "test_out_of_memory"), native, str(step)],
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--step", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = artifacts(Path(folder))
        failed = 0
        for command in commands(made, given.generations, given.step):
            print("+", " ".join(command), flush=True)
            failed += subprocess.run(native_build.fixed_addresses() + command).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
