"""Writes artifact directories so that a killed export leaves the old artifact or none.

While an export of ``NAME`` runs, these stand next to it:

- ``.NAME.lock``, locked by the running export (the file itself stays, it is empty);
- ``.NAME.partial-PID``, the new artifact while it is written; after the exchange, the previous one
  until it is removed;
- ``.NAME.old``, where folders cannot be exchanged in one step: the previous artifact between the
  two renames that replace it.

The next export of ``NAME`` removes what a killed one left, and puts ``.NAME.old`` back when the
kill came between the renames.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from glass_export.artifact.reader import CHECKSUM_NAME, PARTIAL_NAME, checksum_line, sha256, sibling
from glass_export.artifact.signature import SIGNATURE_NAME
from glass_export.artifact.signing import SigningKey
from glass_export.errors import ArtifactError, ResourceError, SourceError
from glass_export.files import exchange, sync
from glass_export.log import logger, progress
from glass_export.manifest import MANIFEST_NAME, FileEntry, Manifest

_ABOUT = (MANIFEST_NAME, CHECKSUM_NAME, SIGNATURE_NAME)
"""What tells of the other files, and so is not listed with them."""
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_FULL_WORDS = ("No space left", "File too large", "Disk quota exceeded")
_DISK_BROKEN = {errno.EIO, errno.EROFS, errno.ESTALE}
_DISK_BROKEN_WORDS = ("Input/output error", "Read-only file system", "Stale file handle")


class ArtifactWriter:
    """Context manager that collects an artifact's files and puts them in place in one step.

    Write files under :attr:`path`, then call :meth:`commit`. Leaving the block without a commit
    removes everything that was written and keeps the old artifact.

    Args:
        output: Directory of the artifact; an artifact that is there is replaced.
        expected_bytes: Estimated size, compared with the free disk space before work starts;
            :meth:`require` does the same later.
        key: Signs the artifact; None leaves it unsigned.

    Raises:
        ArtifactError: ``output`` is in use, is not an artifact, or the disk is full.
    """

    def __init__(
        self, output: Path | str, *, expected_bytes: int = 0, key: SigningKey | None = None
    ) -> None:
        self.output = Path(output).resolve()
        self.path = sibling(self.output, f"partial-{os.getpid()}")
        self._expected, self._key = expected_bytes, key
        self._old = sibling(self.output, "old")
        self._lock = filelock.FileLock(sibling(self.output, "lock"), timeout=0)

    def __enter__(self) -> Self:
        """Lock the output, tidy up after killed exports and make the partial directory."""
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout as problem:
            raise ArtifactError(
                f"{self.output}: in use by another export; wait for it or choose another --output"
            ) from problem
        except OSError as problem:
            raise self._unwritable(problem) from problem
        try:
            self._tidy()
            self._refuse_foreign()
            self.require(self._expected)
            self.path.mkdir()
        except OSError as problem:
            self._lock.release()
            raise self._unwritable(problem) from problem
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not committed. Raises ArtifactError when the disk was full or failed."""
        written = free = 0
        with suppress(OSError):  # the figures of a message are not worth another error
            written = _size(self.path)
            free = shutil.disk_usage(self.output.parent).free
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        if error is not None and _says(error, _DISK_BROKEN, _DISK_BROKEN_WORDS):
            raise ArtifactError(
                f"{self.output}: the disk failed ({error}) while the model was read or the "
                "artifact written; check both disks, then export again, or choose another --output"
            ) from error
        if error is not None and _says(error, _DISK_FULL, _DISK_FULL_WORDS):
            raise ArtifactError(
                f"{self.output}: disk full ({error}); {_megabytes(written)} were written, "
                f"{_megabytes(max(self._expected, written))} or more are needed, "
                f"{_megabytes(free)} were left; free some space or choose another --output"
            ) from error

    def require(self, expected_bytes: int) -> None:
        """Raise ArtifactError when the disk has less free space than ``expected_bytes``."""
        self._expected = expected_bytes
        free = shutil.disk_usage(self.output.parent).free
        if free < expected_bytes:
            raise ArtifactError(
                f"{self.output}: disk too full; the artifact needs about "
                f"{_megabytes(expected_bytes)}, {_megabytes(free)} are free; "
                "free some space or choose another --output"
            )

    def seal(self, manifest: Manifest) -> Manifest:
        """Write glass.json with size and hash of every file, so that ``path`` can be opened; and
        its signature, given a key.

        Files may still be changed afterwards; :meth:`commit` seals again.

        Args:
            manifest: The manifest; its ``files`` are replaced.

        Returns:
            The manifest with ``files``.
        """
        names = sorted(p.relative_to(self.path).as_posix() for p in _files(self.path))
        names = [name for name in names if name not in _ABOUT]
        with progress("hash files", _size(self.path), "bytes") as task:
            entries = []
            for name in names:
                entries.append(self._entry(name))
                task.advance(entries[-1].size)
        sealed = replace(manifest, files=tuple(entries))
        content = sealed.to_json().encode()
        (self.path / MANIFEST_NAME).write_bytes(content)
        (self.path / CHECKSUM_NAME).write_bytes(checksum_line(content))
        if self._key:
            (self.path / SIGNATURE_NAME).write_bytes(self._key.sign(content))
        return sealed

    def commit(self, manifest: Manifest) -> Manifest:
        """Seal the artifact, flush it to disk and put it in the place of the old one.

        Returns:
            The manifest with ``files``.

        Raises:
            ArtifactError: the directory could not be replaced.
            OSError: the disk failed before that.
        """
        sealed = self.seal(manifest)
        for path in (*_files(self.path), *_folders(self.path)):
            sync(path)
        self._refuse_foreign()
        try:
            self._swap()
            sync(self.output.parent)
        except OSError as problem:
            raise self._unwritable(problem) from problem
        shutil.rmtree(self._old, ignore_errors=True)
        return sealed

    def _swap(self) -> None:
        """Put the new artifact in its place; the previous one is then at ``path`` or ``_old``."""
        if self.output.exists():
            if exchange(self.path, self.output):
                return
            self.output.rename(self._old)
        try:
            self.path.rename(self.output)
        except BaseException:
            if self._old.exists() and not self.output.exists():
                self._old.rename(self.output)
            raise

    def _entry(self, name: str) -> FileEntry:
        path = self.path / name
        return FileEntry(path=name, size=path.stat().st_size, sha256=sha256(path))

    def _tidy(self) -> None:
        """Undo what a killed export left; the lock is held, so nobody else is at work here."""
        if self._old.is_dir():
            if self.output.exists():
                shutil.rmtree(self._old)
            else:
                logger.warning("an export was interrupted: restored %s", self.output)
                self._old.rename(self.output)
        partial = re.compile(re.escape(sibling(self.output, "partial-").name) + "[0-9]+")
        for left in self.output.parent.iterdir():
            if partial.fullmatch(left.name) and left.is_dir():
                logger.info("remove %s, left by an interrupted export", left)
                shutil.rmtree(left)

    def _refuse_foreign(self) -> None:
        """Only an artifact may be replaced, and only when nothing else lies in its directory."""
        if not self.output.exists():
            return
        if not self.output.is_dir():
            raise ArtifactError(f"{self.output}: is a file; choose another --output")
        present = {path.relative_to(self.output).as_posix() for path in _files(self.output)}
        if present and MANIFEST_NAME not in present:
            raise ArtifactError(
                f"{self.output}: not empty and not an artifact (no {MANIFEST_NAME}); "
                "choose another --output, or empty the directory"
            )
        if foreign := sorted(present - _listed(self.output / MANIFEST_NAME)):
            raise ArtifactError(
                f"{self.output}: {foreign[0]!r} is not part of the artifact and would be lost; "
                "move it away or choose another --output"
            )

    def _unwritable(self, problem: OSError) -> ArtifactError:
        return ArtifactError(
            f"{self.output}: cannot be written ({problem}); choose another --output"
        )


def _listed(manifest: Path) -> set[str]:
    """Files that glass.json lists, of whatever schema; all that may be removed with it."""
    if not manifest.exists():
        return set()
    try:
        entries = {str(entry["path"]) for entry in json.loads(manifest.read_bytes())["files"]}
    except (ValueError, LookupError, TypeError, RecursionError) as problem:
        raise ArtifactError(
            f"{manifest}: damaged, so it does not tell which files may be replaced; "
            "remove the directory or choose another --output"
        ) from problem
    return entries | {*_ABOUT, PARTIAL_NAME}


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]


def _folders(root: Path) -> list[Path]:
    return [root, *(path for path in root.rglob("*") if path.is_dir())]


def _size(root: Path) -> int:
    return sum(path.lstat().st_size for path in _files(root))


def _says(error: BaseException, codes: set[int], words: tuple[str, ...]) -> bool:
    """Whether ``error`` has one of the codes; native libraries tell it in words only.

    Errors that are about another place, or that say already what is to be done, are left alone.
    """
    if isinstance(error, (ArtifactError, ResourceError, SourceError)):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in codes
    return any(word in str(error) for word in words)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
