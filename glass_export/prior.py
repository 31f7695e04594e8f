"""The global prior: what a model itself finds important. Neither torch nor transformers is needed.

Legend: L layers, F FFN width.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import safe_open

from glass_export.errors import ArtifactError
from glass_export.files import replacing
from glass_export.spec import STATISTICS, NullStart, Statistic

FORMAT_VERSION = 1
"""Version of prior.safetensors, and of the formulas behind it."""

_DIGEST = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Mean of each statistic over text the model wrote itself, and how that text came about.

    ``text``: what the text starts from: nothing (``null``), a chat template up to the user's words
    (``template``), or half of it each (``mixed``).

    With h_t the input of a down projection at token t, u_t = h_t / ||h_t||_2 and
    r_t = h_t * dNLL/dh_t: ``A`` = mean |u_t|, ``I`` = mean |r_t|, ``G`` = mean u_t^2 and
    ``F`` = mean r_t^2.

    Shape: each statistic [L,F], float32.
    Source: GLASS (arXiv 2508.14302) for A and I; G is their square form, F the Fisher information.
    """

    statistics: dict[Statistic, NDArray[np.float32]]
    tokens: int
    seed: int
    temperature: float
    model_sha256: str
    text: NullStart = "null"

    def save(self, path: Path | str) -> None:
        """Write prior.safetensors, atomically; equal priors give equal bytes.

        Raises:
            OSError: the file cannot be written.
        """
        metadata = {
            "format_version": str(FORMAT_VERSION),
            "tokens": str(self.tokens),
            "seed": str(self.seed),
            "temperature": repr(self.temperature),
            "model_sha256": self.model_sha256,
            "text": self.text,
        }
        write_tensors(Path(path), dict(self.statistics), metadata)

    @classmethod
    def load(cls, path: Path | str) -> Prior:
        """Read a file that :meth:`save` wrote.

        Raises:
            ArtifactError: missing, damaged, of another version, or not a prior.
        """
        tensors, metadata = read_tensors(Path(path))
        version = metadata.get("format_version")
        if version != str(FORMAT_VERSION):
            raise ArtifactError(
                f"{path}: format_version is {version}, expected {FORMAT_VERSION}; "
                "export the model again with this version"
            )
        shapes = {tensors[k].shape for k in STATISTICS if k in tensors}
        types = {str(t.dtype) for t in tensors.values()}
        if set(tensors) != set(STATISTICS) or len(shapes) != 1 or types != {"float32"}:
            found = ", ".join(f"{k} {t.dtype}{list(t.shape)}" for k, t in sorted(tensors.items()))
            raise ArtifactError(
                f"{path}: holds {found or 'nothing'}, expected float32 [L,F] of one shape for each "
                f"of {', '.join(STATISTICS)}; export the model again"
            )
        try:
            return cls(
                statistics={name: tensors[name] for name in STATISTICS},
                tokens=int(metadata["tokens"]),
                seed=int(metadata["seed"]),
                temperature=float(metadata["temperature"]),
                model_sha256=metadata["model_sha256"],
                text=_start(metadata.get("text", "null")),
            )
        except (KeyError, ValueError) as problem:
            raise ArtifactError(
                f"{path}: metadata is not that of a prior ({problem!r}); export the model again"
            ) from problem


def mixed(first: Prior, second: Prior) -> Prior:
    """The mean of two priors of one model, each of which counts half."""
    means = {
        name: ((values + second.statistics[name]) * np.float32(0.5)).astype(np.float32)
        for name, values in first.statistics.items()
    }
    tokens = first.tokens + second.tokens
    return replace(first, statistics=means, tokens=tokens, text="mixed")


def _start(text: str) -> NullStart:
    for known in get_args(NullStart):
        if text == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    raise ValueError(f"text is {text!r}, expected one of {get_args(NullStart)}")


def write_tensors(path: Path, tensors: dict[Any, NDArray[Any]], metadata: dict[str, str]) -> None:
    """Write a .safetensors file with a checksum in its metadata: all of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    sealed = {**metadata, _DIGEST: _digest(tensors, metadata)}
    with replacing(path) as partial:
        partial.write_bytes(_canonical(safetensors.numpy.save(tensors, sealed)))


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read what :func:`write_tensors` wrote: tensors and metadata.

    Raises:
        ArtifactError: missing, unreadable, or the content does not match its checksum.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as problem:
        raise ArtifactError(
            f"{path}: not a readable .safetensors file ({problem}); make it again"
        ) from problem
    if metadata.pop(_DIGEST, None) != _digest(tensors, metadata):
        raise ArtifactError(f"{path}: the content does not match its checksum; make it again")
    return tensors, metadata


def _digest(tensors: dict[Any, NDArray[Any]], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _canonical(blob: bytes) -> bytes:
    """The same file with a sorted header: safetensors writes metadata in random order."""
    (length,) = struct.unpack_from("<Q", blob)
    header = json.dumps(
        json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + blob[8 + length :]
