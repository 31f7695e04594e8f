"""A worker with a toy engine, started as any other interpreter would be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export.bench.contestants import Contestant
from glass_export.bench.workload import Passage, Workload

ENGINE = """
import os, sys, time, types
sys.path.insert(0, {packages!r})
import numpy as np
import glass_export.bench.workers as workers
from glass_export.bench.workers.engine import EngineInfo
from glass_export.bench.workers.serve import main

class Toy:
    def __init__(self, model):
        self.model, self.steps = model, 0
    def load(self, threads, max_length):
        if self.model.endswith("refused"):
            raise ValueError("no such model")
        if self.model.endswith("missing"):
            import a_package_that_is_not_installed
        print("noise on stdout")
        self.weights = np.ones(1_000_000)  # 8 MB
        self.info = EngineInfo("toy 1", 4)
        return self.info
    def prefill(self, tokens, mask):
        return np.eye(4, dtype=np.float32)[tokens[-1] % 4]
    def select(self, density):
        self.density = density
        return {{"fusion_ms": 2.0, "select_ms": 1.0}}
    def decode(self, token):
        self.steps += 1
        if self.model.endswith("crash") and self.steps > 9:
            print("boom", file=sys.stderr)
            os._exit(3)
        if self.model.endswith("hang"):
            time.sleep(60)
        return np.eye(4, dtype=np.float32)[(token + 1) % 4]

workers.KINDS["artifact"] = "Toy"
module = types.ModuleType("glass_export.bench.workers.artifact")
module.Toy = Toy
sys.modules[module.__name__] = module
main()
"""

WORKLOAD = Workload((Passage((1, 2), (1.0, 1.0), (3, 0, 1)), Passage((2,), (1.0,), (3, 2))))


@pytest.fixture
def toy_python(tmp_path: Path) -> Path:
    """An "interpreter" that runs the real worker loop with a toy engine, whatever it is told."""
    script = tmp_path / "toy.py"
    script.write_text(ENGINE.format(packages=str(Path(__file__).parents[3])))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" artifact\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def contestant(toy_python: Path, tmp_path: Path) -> Callable[..., Contestant]:
    """``contestant(name, densities)``: one whose name says what its engine does wrong."""

    def make(name: str, densities: tuple[float | None, ...] = (0.5, 1.0)) -> Contestant:
        return Contestant(
            name=name,
            kind="artifact" if None not in densities else "llama_cpp",
            model=tmp_path / name,
            program=toy_python,
            workload=WORKLOAD,
            max_length=64,
            densities=densities,
            about={"bytes": 1},
        )

    return make
