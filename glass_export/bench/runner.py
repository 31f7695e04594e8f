"""A contestant that is a worker with its model loaded, ready to take turns."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from glass_export.bench.contestants import PEERS, Contestant
from glass_export.bench.outcome import Case, Figures
from glass_export.bench.process import WorkerProcess
from glass_export.errors import WorkerError
from glass_export.runtime.stats import rate


class Runner:
    """A contestant's process. Closing it, or leaving its block, ends the process."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        """Start the process and load the model.

        Raises:
            WorkerError: neither works; a missing package is named.
        """
        self.contestant = contestant
        self._worker = WorkerProcess(contestant.kind, contestant.program)
        try:
            loaded = self._worker.ask(
                "load",
                model=str(contestant.model.resolve()),
                threads=threads,
                max_length=contestant.max_length,
            )
        except WorkerError as problem:
            self.close()
            hint = _install_hint(contestant.kind, problem)
            raise WorkerError(f"{contestant.name}: {problem}{hint}") from problem
        except BaseException:
            self.close()
            raise
        self.engine = str(loaded["engine"])
        self._prefills = bool(loaded["prefills"])
        self._memory: Figures = {name: loaded[name] for name in ("base_rss_mb", "load_rss_mb")}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def turn(self, case: Case, tokens: int) -> Figures:
        """Run a prompt and ``tokens`` timed tokens after it; one token before them warms up."""
        prompt = self.contestant.workload.prompt(case.context)
        times: dict[str, Any] = self._worker.ask(
            "prefill", tokens=prompt, mask=[1.0] * len(prompt), density=case.density
        )
        self._worker.ask("decode", count=1)
        decode = self._worker.ask("decode", count=tokens)["ms"]
        prefill = times.pop("prefill_ms")
        figures: Figures = {**times, "decode_tps": rate(tokens, decode)}
        if self._prefills:
            return {**figures, "prefill_tps": rate(case.context, prefill)}
        return {**figures, "prefill_tps": None, "ttft_ms": None}

    def score(self, density: float | None, reference: Path, *, save: bool = False) -> Figures:
        """Quality against the predictions in ``reference``, or write them; see engine.score."""
        result = self._worker.ask(
            "score",
            passages=self.contestant.workload.plain(),
            density=density,
            reference=str(reference),
            save=save,
        )
        return {"kl": result["kl"], "ppl": result["ppl"], "scored_tokens": result["tokens"]}

    def memory(self, case: Case, tokens: int) -> Figures:
        """Resident memory without the model, with it, and at most during one turn; see serve."""
        self.turn(case, tokens)
        return {**self._memory, **self._worker.ask("quit")}


def _install_hint(kind: str, problem: WorkerError) -> str:
    peer = next((peer for peer in PEERS.values() if peer.kind == kind), None)
    if peer is None or problem.kind != "ModuleNotFoundError":
        return ""
    other = ", or name a Python that has it with --peer-python" if peer.own_python else ""
    return f"; run `pip install {peer.package}`{other}"
