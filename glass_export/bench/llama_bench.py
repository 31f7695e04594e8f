"""llama.cpp's own benchmark program as a contestant: one run of it for each figure of a turn.

It has no conversation and tells no logits, so neither its quality nor its memory is measured.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from glass_export.bench.contestants import Contestant
from glass_export.bench.outcome import Case, Figures
from glass_export.bench.process import TIMEOUT
from glass_export.errors import WorkerError


class LlamaBench:
    """A .gguf file in llama-bench; see :class:`.runner.Runner`, whose place it takes."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        """Try the program and the model with a prompt of one token.

        Raises:
            WorkerError: the program cannot be run, is not llama-bench, or refuses the model.
        """
        self.contestant = contestant
        self._command = [str(contestant.program), "--model", str(contestant.model.resolve())]
        self._command += ["--threads", str(threads), "--n-gpu-layers", "0"]
        self._command += ["--repetitions", "1", "--output", "json"]
        try:
            tried = self._run(prompt=1)
        except WorkerError as problem:
            raise WorkerError(f"{contestant.name}: {problem}") from problem
        self.engine = f"llama.cpp {tried['build_number']} ({tried['build_commit']})"

    def turn(self, case: Case, tokens: int) -> Figures:
        """Run a prompt, and ``tokens`` tokens after one; the program warms up by itself.

        ``ttft_ms`` is the time of the prompt, as nothing is chosen from its logits.

        Raises:
            WorkerError: the program failed.
        """
        prompt = self._run(prompt=case.context)
        decode = self._run(generate=tokens, depth=case.context)
        return {
            "ttft_ms": prompt["avg_ns"] / 1e6,
            "prefill_tps": prompt["avg_ts"],
            "decode_tps": decode["avg_ts"],
        }

    def _run(self, *, prompt: int = 0, generate: int = 0, depth: int = 0) -> dict[str, Any]:
        """Run the one test that is not of length 0, after ``depth`` tokens."""
        sizes = ["--n-prompt", str(prompt), "--n-gen", str(generate), "--n-depth", str(depth)]
        program = self._command[0]
        try:
            ended = subprocess.run(
                [*self._command, *sizes],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT,
            )
        except OSError as problem:
            raise WorkerError(f"{program} cannot be started: {problem}") from problem
        except subprocess.TimeoutExpired as problem:
            raise WorkerError(f"{program} took longer than {TIMEOUT:g} s") from problem
        if ended.returncode:
            last = " | ".join(ended.stderr.splitlines()[-3:]) or "it wrote nothing"
            raise WorkerError(f"{program} ended with exit code {ended.returncode}: {last}")
        try:
            (test,) = json.loads(ended.stdout)
            return dict(test)
        except ValueError as problem:
            raise WorkerError(
                f"{program} printed {ended.stdout[:80]!r}, expected the JSON of one test; "
                "give the program llama-bench of llama.cpp"
            ) from problem
