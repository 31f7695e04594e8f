"""Who takes part in a benchmark, and under which conditions; all of it is checked before a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glass_export.artifact import Artifact
from glass_export.bench.workers import KINDS
from glass_export.bench.workload import Workload
from glass_export.errors import BenchError
from glass_export.runtime.request import checked_count, checked_threads
from glass_export.runtime.text import TextCodec
from glass_export.schema import choices
from glass_export.spec import kept_neurons


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every contestant does.

    Attributes:
        densities: Shares of FFN neurons that artifacts decode with.
        threads: CPU threads; everything is measured for each number.
        contexts: Lengths of the prompts, in tokens.
        repeats: Rounds, in which all take turns.
        tokens: Decoded and timed after each prompt.
    """

    densities: tuple[float, ...] = (0.3, 0.5, 1.0)
    threads: tuple[int, ...] = ()
    contexts: tuple[int, ...] = (128,)
    repeats: int = 5
    tokens: int = 64

    def checked(self) -> Settings:
        """These settings without repetitions; no threads given are all that may be used.

        Raises:
            GenerationError: a value is out of range.
        """
        for density in self.densities:
            kept_neurons(density, 1)
        for name in ("repeats", "tokens"):
            checked_count(name, getattr(self, name))
        for context in self.contexts:
            checked_count("context", context)
        return Settings(
            densities=tuple(sorted(set(self.densities))),
            threads=tuple(dict.fromkeys(map(checked_threads, self.threads or (None,)))),
            contexts=tuple(sorted(set(self.contexts))),
            repeats=self.repeats,
            tokens=self.tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Something that computes the workload in a process of its own.

    Attributes:
        name: What it is called in the results.
        kind: A worker's, see :data:`.workers.KINDS`, or ``llama_bench``.
        model: What it loads.
        program: What runs it: an interpreter with the runtime's package, None being this one, or
            llama-bench.
        workload: Text in the tokens of its model.
        max_length: Context in tokens.
        densities: Those that it decodes with; (None,) for a peer, which has none.
        about: Facts for the results.
    """

    name: str
    kind: str
    model: Path
    program: Path | None
    workload: Workload
    max_length: int
    densities: tuple[float | None, ...]
    about: dict[str, Any]

    @property
    def is_artifact(self) -> bool:
        """Whether it is ours, and not a peer."""
        return self.kind == "artifact"

    @property
    def is_worker(self) -> bool:
        """Whether it answers requests one by one; else only its speed can be measured."""
        return self.kind in KINDS


@dataclass(frozen=True, slots=True)
class Peer:
    """Another runtime: its kind, the model that it takes, and the package that it needs.

    Attributes:
        kind: As a :class:`Contestant`'s.
        model: What its model is, for messages.
        package: To be installed by pip; None for a program of its own.
        own_python: Whether ``--peer-python`` is for it.
    """

    kind: str
    model: str
    package: str | None
    own_python: bool


PEERS = {
    "llama.cpp": Peer("llama_cpp", "a .gguf file", "llama-cpp-python", True),
    "llama-bench": Peer("llama_bench", "a .gguf file", None, False),
    "onnxruntime-genai": Peer(
        "onnxruntime_genai",
        "a folder made by onnxruntime-genai's model builder",
        "onnxruntime-genai",
        True,
    ),
    "xnnpack": Peer(
        "xnnpack", "a dense .pte file of tests/bench/dense_xnnpack.py", "executorch", False
    ),
}


def artifact_contestant(folder: Path, settings: Settings) -> Contestant:
    """The artifact in ``folder``.

    Raises:
        ArtifactError: it is damaged.
        BenchError: its context is too short for the settings.
    """
    artifact = Artifact.open(folder)
    model, target = artifact.manifest.model, artifact.manifest.target
    longest = max(settings.contexts) + settings.tokens + 1  # one token more warms up
    if longest > model.max_length:
        raise BenchError(
            f"{folder}: a context of {max(settings.contexts)} and {settings.tokens} tokens need "
            f"{longest} positions, the artifact has {model.max_length}; lower --context or "
            "--tokens, or export the model again with a larger export.max_length"
        )
    return Contestant(
        name=str(folder),
        kind="artifact",
        model=folder,
        program=None,
        workload=Workload.of(TextCodec.of_artifact(artifact), model.max_length),
        max_length=model.max_length,
        densities=settings.densities,
        about={
            "model": model.name,
            "target": target.name,
            "dtype": target.dtype,
            "ffn_dtype": target.ffn_dtype,
            "bytes": sum(entry.size for entry in artifact.manifest.files),
        },
    )


def peer_contestant(
    name: str,
    model: Path | None,
    of: Contestant,
    *,
    python: Path | None = None,
    llama_bench: Path | None = None,
) -> Contestant:
    """The peer ``name`` with its build of the model of the artifact ``of``.

    Args:
        name: One of :data:`PEERS`.
        model: Its model; see :class:`Peer`.
        of: The artifact whose tokens it gets.
        python: Interpreter that has the peer's package; None: this one.
        llama_bench: llama.cpp's benchmark program; None: the one in PATH.

    Raises:
        BenchError: the peer is unknown, or its model or program is missing.
    """
    if name not in PEERS:
        raise BenchError(f"--against: got {name!r}; {choices(name, list(PEERS))}")
    peer = PEERS[name]
    if model is None:
        raise BenchError(f"--against {name} needs --peer-model PATH: {peer.model}")
    if not model.exists():
        raise BenchError(f"--peer-model {model}: no such path; expected {peer.model}")
    if python is not None and not python.exists():
        raise BenchError(f"--peer-python {python}: no such file; expected a Python interpreter")
    if peer.kind == "llama_bench":
        program: Path | None = _llama_bench(llama_bench)
    else:
        program = python if peer.own_python else None
    return Contestant(
        name=name,
        kind=peer.kind,
        model=model,
        program=program,
        workload=of.workload,
        max_length=of.max_length,
        densities=(None,),
        about={"model": str(model), "bytes": _size(model)},
    )


def require_one_text(first: Contestant, second: Contestant) -> None:
    """Raise BenchError when the second does not read the first one's tokens."""
    if first.workload != second.workload:
        raise BenchError(
            f"{second.name}: its tokenizer or context differs from {first.name}'s, so their "
            "predictions cannot be compared; give artifacts of one model"
        )


def require_distinct(contestants: Sequence[Contestant]) -> None:
    """Raise BenchError when two have one name."""
    names = [contestant.name for contestant in contestants]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BenchError(f"{twice[0]}: given twice; give each artifact and each peer once")


def _llama_bench(path: Path | None) -> Path:
    if path is not None and not path.is_file():
        raise BenchError(
            f"--llama-bench {path}: no such file; expected the program llama-bench of llama.cpp"
        )
    found = path or shutil.which("llama-bench")
    if found is None:
        raise BenchError(
            "--against llama-bench: there is no llama-bench in PATH; build it from llama.cpp's "
            "sources and name it with --llama-bench PATH"
        )
    return Path(found)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
