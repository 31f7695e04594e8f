"""ExecuTorch behind the Backend protocol, by the Python binding of the ``executorch`` package.

That binding takes and gives torch tensors, so this module alone of the runtime needs torch; arrays
are passed without copies. The key/value caches live in the program's shared arena.

Legend: T tokens of a call, N wanted logit rows, L layers, F FFN width, K kept neurons,
V vocabulary.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Method, Program, Runtime
from numpy.typing import NDArray

from glass_export import native
from glass_export.artifact import Artifact
from glass_export.artifact.checks import AGAIN
from glass_export.errors import ArtifactCode, ArtifactError, GenerationError, NativeError
from glass_export.log import logger
from glass_export.runtime.base import (
    FloatArray,
    IndexArray,
    LocalStatistics,
    PrefillResult,
    TokenArray,
)
from glass_export.runtime.program_metadata import decode
from glass_export.runtime.request import checked_context, checked_neurons, checked_threads
from glass_export.spec import LOGIT_ROWS

_METHODS = ("prefill", "decode")
_METADATA = "get_metadata"
_MAGIC = b"ET"
"""Of program files, at byte 4; a version of two digits follows."""
_LIVE: WeakSet[ExecuTorchBackend] = WeakSet()
"""Open backends."""


class ExecuTorchBackend:
    """Runs the methods ``prefill`` and ``decode`` of ``model.pte``; see runtime.base.Backend."""

    def __init__(
        self, artifact: Artifact, *, threads: int | None = None, max_length: int | None = None
    ) -> None:
        """Load the program.

        Args:
            artifact: An artifact of the target ``executorch``.
            threads: Threads of the process-wide pool; None: all processors this process may use.
            max_length: Context length in tokens, at most the artifact's; None: the artifact's.

        Raises:
            ArtifactError: the program is damaged, not one of ours, or needs another runtime.
            NativeError: the operators that the program needs are missing or cannot be built.
            GenerationError: max_length or threads is out of range.
        """
        manifest = artifact.manifest
        self.dims = manifest.model.dims
        self.prefill_chunk = manifest.target.prefill_chunk
        self.max_length = checked_context(max_length, manifest.model.max_length)
        wanted = checked_threads(threads)
        path = artifact.graph("prefill")
        program = _load(path)
        _prepare(path, _metadata(path, program))
        _set_threads(wanted)
        self._prefill, self._decode = (_method(path, program, name) for name in _METHODS)
        every = np.arange(self.dims.d_ff, dtype=np.int32)
        self._dense = torch.from_numpy(np.tile(every, (self.dims.rows, 1)))
        self._neurons = self._dense
        self._dense_by_prefill = not manifest.target.custom_ops
        self._position = torch.zeros(1, dtype=torch.int64)
        self._token = torch.zeros((1, 1), dtype=torch.int64)
        _LIVE.add(self)

    def prefill(
        self,
        tokens: TokenArray,
        position: int,
        score_weights: FloatArray,
        logit_rows: TokenArray,
    ) -> PrefillResult:
        """See Backend.prefill. Shape: logits [N,V]; N is at most LOGIT_ROWS."""
        if len(logit_rows) > LOGIT_ROWS:
            raise GenerationError(
                f"logit_rows: got {len(logit_rows)} rows, expected at most {LOGIT_ROWS}; ask for "
                "the others in further calls at the same position"
            )
        self._position[0] = position
        rows = logit_rows if len(logit_rows) else np.zeros(1, np.int64)  # the method wants one
        logits, abs_sum, sq_sum = _execute(
            self._prefill,
            (
                _tensor(tokens, np.int64)[None],
                self._position,
                _tensor(score_weights, np.float32),
                _tensor(rows, np.int64),
            ),
        )
        tokens_scored = float(np.sum(score_weights))
        statistics = LocalStatistics(abs_sum.copy(), sq_sum.copy(), tokens_scored)
        return PrefillResult(logits[0, : len(logit_rows)].copy(), statistics)

    def select(self, indices: IndexArray | None) -> None:
        """See Backend.select. The next decode copies integer neurons side by side, once."""
        if indices is None:
            self._neurons = self._dense
            return
        self._neurons = torch.from_numpy(checked_neurons(indices, self.dims).copy())

    def decode(self, token: int, position: int) -> FloatArray:
        """See Backend.decode. Shape: logits [V].

        Stock operators copy the rows of the chosen neurons, so all neurons are prefill's business.
        """
        if self._dense_by_prefill and self._neurons is self._dense:
            ids, weights = np.array([token]), np.zeros(1, np.float32)
            dense: FloatArray = self.prefill(ids, position, weights, np.zeros(1, np.int64)).logits[
                0
            ]
            return dense
        self._token[0, 0], self._position[0] = token, position
        (logits,) = _execute(self._decode, (self._token, self._position, self._neurons))
        row: FloatArray = logits[0, 0]
        return row

    def close(self) -> None:
        """Drop the program with its arena, packed weights and copies of chosen neurons."""
        for name in ("_prefill", "_decode"):
            self.__dict__.pop(name, None)
        native.release_packed()
        _LIVE.discard(self)


def _set_threads(wanted: int) -> None:
    """Size the thread pool. It belongs to the process, and loaded methods hold on to it."""
    present = portable_lib._threadpool_get_thread_count()
    if present == wanted:
        return
    if _LIVE:
        raise GenerationError(
            f"threads: got {wanted}, but another session uses the process's pool of {present} "
            f"threads; close that session first, or open this one with threads={present}"
        )
    portable_lib._unsafe_reset_threadpool(wanted)


def _load(path: Path) -> Program:
    with path.open("rb") as file:
        if file.read(8)[4:6] != _MAGIC:  # ExecuTorch ends the process over some other files
            raise ArtifactError(
                f"{path}: damaged, or not an ExecuTorch program; {AGAIN}", ArtifactCode.GRAPH
            )
    try:
        return Runtime.get().load_program(path)
    except RuntimeError as problem:
        raise ArtifactError(
            f"{path}: ExecuTorch cannot load this program ({_reason(problem)}); {AGAIN}",
            ArtifactCode.GRAPH,
        ) from problem


def _metadata(path: Path, program: Program) -> dict[str, str]:
    """The program's own description."""
    missing = sorted({*_METHODS, _METADATA} - program.method_names)
    if missing:
        raise ArtifactError(
            f"{path}: not a program of this project: it has no method {', '.join(missing)}, only "
            f"{', '.join(sorted(program.method_names))}; export the model with glass-export",
            ArtifactCode.GRAPH,
        )
    (text,) = _method(path, program, _METADATA).execute(())
    return decode(str(text), str(path))


def _prepare(path: Path, metadata: dict[str, str]) -> None:
    """Bring in what the program needs: our operators, and one packed copy of its weights."""
    if metadata["dtype"] != "fp32":
        importlib.import_module("executorch.kernels.quantized")  # registers its kernels
    if metadata["custom_ops"] == "false" and not native.built("executorch"):
        return
    operators = native.load_operators()
    version = operators.glass_abi_version()
    if metadata["custom_ops"] == "true" and str(version) != metadata["abi_version"]:
        raise NativeError(
            f"{native.library('executorch')}: operators of version {version}, but {path} needs "
            f"version {metadata['abi_version']}; run `{native.BUILD_COMMAND} --force`, or export "
            "the model again"
        )
    if operators.glass_share_packed_weights(1):
        logger.warning("XNNPACK cannot share packed weights here: more memory will be used")


def _method(path: Path, program: Program, name: str) -> Method:
    try:
        method = program.load_method(name)
    except RuntimeError as problem:
        raise ArtifactError(
            f"{path}: ExecuTorch cannot load the method {name!r} ({_reason(problem)}); an operator "
            "or backend that it needs is not in this build of ExecuTorch",
            ArtifactCode.GRAPH,
        ) from problem
    assert method is not None
    return method


def _reason(problem: RuntimeError) -> str:
    """What ExecuTorch has logged, which says more than what it raises."""
    return native.take_error() or str(problem)


def _tensor(array: NDArray[np.generic], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype))


def _execute(method: Method, inputs: Sequence[torch.Tensor]) -> list[FloatArray]:
    """Views of the outputs, which the next call overwrites.

    ``Method.execute`` would copy them with torch, whose threads then spin for a while and take the
    processors from the runtime's own pool: a third of the decode speed on two cores.
    """
    try:
        outputs = method._method.call(inputs, clone_outputs=False)
        return [output.numpy() for output in outputs]
    except RuntimeError as problem:
        raise GenerationError(
            f"ExecuTorch refused the call ({_reason(problem)}); positions must be "
            "inside the context, tokens inside the vocabulary, and neuron indices ascending "
            "without repetition"
        ) from problem
