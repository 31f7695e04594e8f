"""Opens artifact directories; whatever is wrong with one is an ArtifactError.

The format is described in ``artifacts/README.md``.

Legend: L layers, F FFN width.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from glass_export.artifact.signature import require_signature
from glass_export.errors import ArtifactError, GlassError
from glass_export.log import progress
from glass_export.manifest import MANIFEST_NAME, FileEntry, Manifest, ModelInfo, TensorEntry
from glass_export.spec import Statistic

CHECKSUM_NAME = f"{MANIFEST_NAME}.sha256"
PARTIAL_NAME = f".{MANIFEST_NAME}.partial"
"""What replaces the manifest or its checksum, while it is written."""
PRIOR_NAME = "prior.safetensors"
ITEM_BITS = {
    "float32": 32, "float16": 16, "bfloat16": 16, "int64": 64, "int32": 32, "int16": 16,
    "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "bool": 8,
}  # fmt: skip
AGAIN = "copy or export the artifact again"

_CHECKSUMS = re.compile(rb"([0-9a-f]{64}  %s\n){1,2}" % re.escape(MANIFEST_NAME).encode())
"""Two lines after a killed rewrite of the manifest: that of the old one and that of the new."""
_SAFE_PATH = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact directory whose manifest and files have been checked."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        check: Literal["size", "full"] = "size",
        trusted_keys: Sequence[str] | None = None,
    ) -> Artifact:
        """Open and validate an artifact.

        Args:
            path: The artifact's directory.
            check: ``"size"`` compares the size of every listed file, ``"full"`` its SHA-256 too.
            trusted_keys: Ed25519 public keys in base64, one of which must have signed the
                artifact; every file is then compared in full. None asks for no signature.

        Raises:
            ArtifactError: not an artifact, of another schema, a file is missing or altered, the
                manifest contradicts itself, or no trusted key signed it.
            SigningError: a trusted key is not one, or the sequence is empty.
        """
        root = Path(path)
        manifest = _read_manifest(root, trusted_keys)
        _check_manifest(manifest, root / MANIFEST_NAME)
        for entry in manifest.files:
            _check_file(root, entry)
        if check == "full" or trusted_keys is not None:
            _check_hashes(root, manifest.files)
        return cls(root, manifest)

    def file(self, name: str) -> Path:
        """Path of the listed file ``name``. Raises ArtifactError when the manifest has none."""
        if not any(entry.path == name for entry in self.manifest.files):
            listed = ", ".join(entry.path for entry in self.manifest.files)
            raise ArtifactError(f"{self.path}: no file {name!r} in this artifact; it has {listed}")
        return self.path / name

    def graph(self, role: str) -> Path:
        """Path of the graph with ``role``, such as ``"prefill"``. Raises ArtifactError."""
        graphs = self.manifest.target.graphs
        if role not in graphs:
            raise ArtifactError(
                f"{self.path}: no graph {role!r} in this artifact; it has {', '.join(graphs)}"
            )
        return self.file(graphs[role])

    def prior(self) -> dict[Statistic, NDArray[np.float32]]:
        """The global prior's statistics, read from ``prior.safetensors``.

        Shape: each array [L,F], float32.

        Raises:
            ArtifactError: unreadable, a statistic is missing, or has another shape, type or a NaN.
        """
        path = self.file(PRIOR_NAME)
        try:
            tensors = safetensors.numpy.load(path.read_bytes())
        except Exception as problem:
            raise ArtifactError(f"{path}: not readable ({problem}); {AGAIN}") from problem
        dims = self.manifest.model.dims
        for name in self.manifest.prior.statistics:
            _check_prior(path, name, tensors.get(name), (dims.rows, dims.d_ff))
        return {name: tensors[name] for name in self.manifest.prior.statistics}


def _check_prior(
    path: Path, name: str, values: NDArray[Any] | None, shape: tuple[int, int]
) -> None:
    if values is None:
        raise ArtifactError(f"{path}: statistic {name!r} is missing; {AGAIN}")
    if values.dtype != np.float32 or values.shape != shape:
        raise ArtifactError(
            f"{path}: {name!r} is {values.dtype}{list(values.shape)}, expected float32"
            f"{list(shape)} (layers, neurons); {AGAIN}"
        )
    if not np.isfinite(values).all():
        raise ArtifactError(f"{path}: {name!r} holds NaN or infinite values; export again")


def _read_manifest(root: Path, trusted_keys: Sequence[str] | None) -> Manifest:
    path = root / MANIFEST_NAME
    content = _read(root, path)
    if trusted_keys is not None:
        require_signature(root, content, trusted_keys)  # before anything of it is parsed
    try:
        manifest = Manifest.from_json(content.decode())
    except UnicodeDecodeError as problem:
        raise ArtifactError(f"{path}: not UTF-8 text ({problem}); {AGAIN}") from problem
    except GlassError as problem:
        raise ArtifactError(f"{root}: {problem}") from problem
    checksum = root / CHECKSUM_NAME
    expected = checksum_line(content)
    got = _read(root, checksum)
    if not _CHECKSUMS.fullmatch(got) or expected not in got.splitlines(keepends=True):
        raise ArtifactError(
            f"{path}: altered; its SHA-256 is {expected[:64].decode()}, {CHECKSUM_NAME} says "
            f"{got[:64].decode(errors='replace')!r}; {AGAIN}"
        )
    return manifest


def _read(root: Path, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        if root.is_dir():
            raise ArtifactError(
                f"{root}: no {path.name}; this is not a complete glass-export artifact, give the "
                "directory that an export wrote"
            ) from problem
        kept = sibling(root.absolute(), "old")
        hint = f"; an export was interrupted, rename {kept} to get the last one back"
        raise ArtifactError(
            f"{root}: no such directory; export a model first"
            + (hint if not root.exists() and kept.is_dir() else "")
        ) from problem
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path}: cannot be read ({problem})") from problem


def _check_manifest(manifest: Manifest, where: Path) -> None:
    """Every statement of the manifest that needs no look at the files."""
    model, target = manifest.model, manifest.target
    sizes = {entry.path: entry.size for entry in manifest.files}
    used = [*target.graphs.values(), *([target.weights] if target.weights else []), PRIOR_NAME]
    problem = (
        _path_problem([entry.path for entry in manifest.files])
        or _model_problem(model)
        or next((f"{name!r} is used but not in files" for name in used if name not in sizes), None)
        or _tensor_problem(target.tensors, sizes.get(target.weights or "", 0))
    )
    if not problem and target.prefill_chunk < 1:
        problem = f"target.prefill_chunk is {target.prefill_chunk}, expected at least 1"
    if not problem and manifest.selection.prior not in manifest.prior.statistics:
        problem = f"selection.prior is {manifest.selection.prior!r}, not among prior.statistics"
    if problem:
        raise ArtifactError(f"{where}: {problem}; {AGAIN}")


def _path_problem(paths: list[str]) -> str | None:
    for path in paths:
        if not _SAFE_PATH.fullmatch(path):
            return f"file path {path!r} is not a plain relative path inside the artifact"
    folded = [path.casefold() for path in paths]
    if twice := [path for path in paths if folded.count(path.casefold()) > 1]:
        return f"file {twice[0]!r} is listed twice"
    return None


def _model_problem(model: ModelInfo) -> str | None:
    dims = model.dims
    sizes = astuple(replace(dims, expert_rows=1))
    if min(*sizes, model.max_length) < 1 or dims.expert_rows < 0:
        return f"model.dims and max_length have to be positive, got {dims}, {model.max_length}"
    if dims.heads % dims.kv_heads:
        return f"heads ({dims.heads}) is not a multiple of kv_heads ({dims.kv_heads})"
    special = [*model.eos_token_ids, *([] if model.bos_token_id is None else [model.bos_token_id])]
    if wrong := [token for token in special if not 0 <= token < dims.vocab_size]:
        return f"token id {wrong[0]} is outside the vocabulary of {dims.vocab_size}"
    return None


def _tensor_problem(tensors: Iterable[TensorEntry], size: int) -> str | None:
    names: set[str] = set()
    for tensor in tensors:
        label = f"tensor {tensor.name!r}"
        if tensor.name in names:
            return f"{label} is listed twice"
        names.add(tensor.name)
        if tensor.dtype not in ITEM_BITS:
            return f"{label}: unknown dtype {tensor.dtype!r}, known: {', '.join(ITEM_BITS)}"
        nbytes = -(-math.prod(tensor.shape) * ITEM_BITS[tensor.dtype] // 8)
        if min(tensor.shape, default=1) < 0 or nbytes != tensor.nbytes:
            return f"{label}: nbytes is {tensor.nbytes}, its shape and dtype need {nbytes}"
        if tensor.offset < 0 or tensor.offset + tensor.nbytes > size:
            return f"{label}: bytes {tensor.offset}+{nbytes} are outside the file of {size} bytes"
    return None


def _check_file(root: Path, entry: FileEntry) -> None:
    path = root / entry.path
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise ArtifactError(f"{path}: links to outside of the artifact; {AGAIN}")
        if not path.is_file():
            raise ArtifactError(f"{path}: not a file; {AGAIN}")
        if (size := path.stat().st_size) != entry.size:
            raise ArtifactError(f"{path}: got {size} bytes, expected {entry.size}; {AGAIN}")
    except FileNotFoundError as problem:
        raise ArtifactError(f"{path}: missing; {AGAIN}") from problem
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links
        raise ArtifactError(f"{path}: cannot be read ({problem}); {AGAIN}") from problem


def _check_hashes(root: Path, files: Iterable[FileEntry]) -> None:
    with progress("check files", sum(entry.size for entry in files), "bytes") as task:
        for entry in files:
            path = root / entry.path
            try:
                digest = sha256(path)
            except OSError as problem:
                raise ArtifactError(f"{path}: cannot be read ({problem}); {AGAIN}") from problem
            if digest != entry.sha256:
                raise ArtifactError(
                    f"{path}: altered; SHA-256 is {digest}, expected {entry.sha256}; {AGAIN}"
                )
            task.advance(entry.size)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum_line(content: bytes) -> bytes:
    """What ``glass.json.sha256`` holds for a manifest: the form that ``sha256sum -c`` reads."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_NAME}\n".encode()


def sibling(output: Path, kind: str) -> Path:
    """The hidden path next to ``output`` that an export uses as ``kind``."""
    return output.with_name(f".{output.name}.{kind}")
