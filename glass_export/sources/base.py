"""What all kinds of sources share: the result, the cache directory and remembered hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from glass_export.errors import SourceError
from glass_export.files import replacing
from glass_export.log import logger, progress
from glass_export.manifest import SourceInfo
from glass_export.paths import cache_dir

BLOCK = 1 << 20
"""Bytes read or written at a time."""


class Unavailable(Exception):
    """A source cannot be used here and now; the next one is tried."""


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model on this machine. ``path``: a Hugging Face folder or a .gguf file."""

    path: Path
    info: SourceInfo


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk under ``path`` into a SourceError that says what to do."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (ENOSPC, EDQUOT)
        raise SourceError(
            f"{path}: {'the disk is full' if full else problem}; free some space there, or set "
            "GLASS_EXPORT_CACHE to a folder on another disk"
        ) from problem


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, remembered in the cache as long as size and time stay the same."""
    memory, key = _memory(path)
    try:
        remembered = json.loads(memory.read_text())
        if all(remembered[name] == value for name, value in key.items()):
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing remembered, or not readable: hash again
    digest = hashlib.sha256()
    with path.open("rb") as file, progress(f"Hashing {path.name}", key["size"], "bytes") as task:
        while block := file.read(BLOCK):
            digest.update(block)
            task.advance(len(block))
    remember_sha256(path, digest.hexdigest())
    return digest.hexdigest()


def remember_sha256(path: Path, sha256: str) -> None:
    """Let :func:`file_sha256` know the hash of a file that was just read or written."""
    memory, key = _memory(path)
    try:
        write_atomically(memory, json.dumps(key | {"sha256": sha256}))
    except OSError as problem:
        logger.debug("hash of %s not remembered: %s", path, problem)


def _memory(path: Path) -> tuple[Path, dict[str, Any]]:
    path = path.resolve()
    stat = path.stat()
    key = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    name = hashlib.sha256(str(path).encode()).hexdigest()
    return cache_dir() / "hashes" / f"{name}.json", key


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text)
