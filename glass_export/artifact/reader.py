"""Opens artifact directories; whatever is wrong with one is an ArtifactError.

The format is described in ``artifacts/README.md``.

Legend: L layers, F FFN width.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from glass_export import limits
from glass_export.artifact.checks import AGAIN, PRIOR_NAME, check_manifest
from glass_export.artifact.onnx_file import onnx_problem
from glass_export.artifact.signature import require_signature
from glass_export.errors import ArtifactCode, ArtifactError
from glass_export.log import progress
from glass_export.manifest import MANIFEST_NAME, FileEntry, Manifest
from glass_export.spec import Statistic

CHECKSUM_NAME = f"{MANIFEST_NAME}.sha256"
PARTIAL_NAME = f".{MANIFEST_NAME}.partial"
"""What replaces the manifest or its checksum, while it is written."""

_CHECKSUMS = re.compile(rb"([0-9a-f]{64}  %s\n){1,2}" % re.escape(MANIFEST_NAME).encode())
"""Two lines after a killed rewrite of the manifest: that of the old one and that of the new."""


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
                manifest contradicts itself, a graph refers to other files, or no trusted key
                signed it; ``code`` says which.
            SigningError: a trusted key is not one, or the sequence is empty.
        """
        root = Path(path)
        manifest = _read_manifest(root, trusted_keys)
        check_manifest(manifest, root / MANIFEST_NAME)
        for entry in manifest.files:
            _check_file(root, entry)
        _check_graphs(root, manifest)
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
        content = read_limited(path, limits.PRIOR_BYTES)
        header = int.from_bytes(content[:8], "little")
        try:
            if header > limits.HEADER_BYTES:
                raise ValueError(f"a header of {header} bytes")
            tensors = safetensors.numpy.load(content)
        except Exception as problem:
            raise ArtifactError(
                f"{path}: not readable ({problem}); {AGAIN}", ArtifactCode.PRIOR
            ) from problem
        dims = self.manifest.model.dims
        for name in self.manifest.prior.statistics:
            _check_prior(path, name, tensors.get(name), (dims.rows, dims.d_ff))
        return {name: tensors[name] for name in self.manifest.prior.statistics}


def _check_prior(
    path: Path, name: str, values: NDArray[Any] | None, shape: tuple[int, int]
) -> None:
    if values is None:
        raise ArtifactError(f"{path}: statistic {name!r} is missing; {AGAIN}", ArtifactCode.PRIOR)
    if values.dtype != np.float32 or values.shape != shape:
        raise ArtifactError(
            f"{path}: {name!r} is {values.dtype}{list(values.shape)}, expected float32"
            f"{list(shape)} (layers, neurons); {AGAIN}",
            ArtifactCode.PRIOR,
        )
    if not np.isfinite(values).all():
        raise ArtifactError(
            f"{path}: {name!r} holds NaN or infinite values; export again", ArtifactCode.PRIOR
        )


def _read_manifest(root: Path, trusted_keys: Sequence[str] | None) -> Manifest:
    path, checksum = root / MANIFEST_NAME, root / CHECKSUM_NAME
    _require_artifact(root, (path, checksum))
    content = read_limited(path, limits.MANIFEST_BYTES)
    if trusted_keys is not None:
        require_signature(root, content, trusted_keys)  # before anything of it is parsed
    got = read_limited(checksum, limits.CHECKSUM_BYTES)
    expected = checksum_line(content)
    if not _CHECKSUMS.fullmatch(got) or expected not in got.splitlines(keepends=True):
        raise ArtifactError(
            f"{path}: altered; its SHA-256 is {expected[:64].decode()}, {CHECKSUM_NAME} says "
            f"{got[:64].decode(errors='replace')!r}; {AGAIN}",
            ArtifactCode.CHECKSUM,
        )
    try:
        return Manifest.from_json(content)
    except ArtifactError as problem:
        raise ArtifactError(f"{root}: {problem}", problem.code) from problem


def _require_artifact(root: Path, needed: Iterable[Path]) -> None:
    code = ArtifactCode.NO_ARTIFACT
    try:
        if not root.is_dir():
            kept = sibling(root.absolute(), "old")
            hint = f"; an export was interrupted, rename {kept} to get the last one back"
            raise ArtifactError(
                f"{root}: no such directory; export a model first"
                + (hint if not root.exists() and kept.is_dir() else ""),
                code,
            )
        absent = [path.name for path in needed if not path.exists()]
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{root}: cannot be read ({problem})", code) from problem
    if absent:
        raise ArtifactError(
            f"{root}: no {absent[0]}; this is not a complete glass-export artifact, give the "
            "directory that an export wrote",
            code,
        )


def read_limited(path: Path, most: int) -> bytes:
    """The bytes of a file of an artifact.

    Args:
        path: Of a regular file.
        most: Bytes that it may have.

    Raises:
        ArtifactError: UNREADABLE, TOO_LARGE.
    """
    try:
        if not path.is_file():
            raise OSError("not a file")
        size = path.stat().st_size
        content = path.read_bytes() if size <= most else b""
    except (OSError, ValueError) as problem:
        raise ArtifactError(
            f"{path}: cannot be read ({problem}); {AGAIN}", ArtifactCode.UNREADABLE
        ) from problem
    if size > most:
        raise ArtifactError(
            f"{path}: has {size} bytes, at most {most} are read", ArtifactCode.TOO_LARGE
        )
    return content


def _check_graphs(root: Path, manifest: Manifest) -> None:
    """The graphs of target onnx refer to nothing but the weights file."""
    target = manifest.target
    if target.name != "onnx":
        return
    size = next((entry.size for entry in manifest.files if entry.path == target.weights), 0)
    for name in sorted(set(target.graphs.values()) - {target.weights}):
        model = read_limited(root / name, limits.GRAPH_BYTES)
        if problem := onnx_problem(model, target.weights, size):
            raise ArtifactError(f"{root / name}: {problem}; {AGAIN}", ArtifactCode.GRAPH)


def _check_file(root: Path, entry: FileEntry) -> None:
    path = root / entry.path
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise ArtifactError(
                f"{path}: links to outside of the artifact; {AGAIN}", ArtifactCode.LINK
            )
        if not path.is_file():
            raise ArtifactError(f"{path}: not a file; {AGAIN}", ArtifactCode.UNREADABLE)
        if (size := path.stat().st_size) != entry.size:
            raise ArtifactError(
                f"{path}: got {size} bytes, expected {entry.size}; {AGAIN}", ArtifactCode.SIZE
            )
    except FileNotFoundError as problem:
        raise ArtifactError(f"{path}: missing; {AGAIN}", ArtifactCode.MISSING) from problem
    except (OSError, RuntimeError) as problem:  # RuntimeError: a loop of links
        raise ArtifactError(
            f"{path}: cannot be read ({problem}); {AGAIN}", ArtifactCode.UNREADABLE
        ) from problem


def _check_hashes(root: Path, files: Iterable[FileEntry]) -> None:
    with progress("check files", sum(entry.size for entry in files), "bytes") as task:
        for entry in files:
            path = root / entry.path
            try:
                digest = sha256(path)
            except OSError as problem:
                raise ArtifactError(
                    f"{path}: cannot be read ({problem}); {AGAIN}", ArtifactCode.UNREADABLE
                ) from problem
            if digest != entry.sha256:
                raise ArtifactError(
                    f"{path}: altered; SHA-256 is {digest}, expected {entry.sha256}; {AGAIN}",
                    ArtifactCode.HASH,
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
