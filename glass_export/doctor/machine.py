"""The machine: Python, processor, memory, disk, and what the caches hold."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import glass_export
from glass_export.doctor.finding import Finding
from glass_export.paths import cache_dir
from glass_export.runtime.request import checked_threads

_GROUP = "machine"
_LITTLE_MEMORY = 2 << 30
_LITTLE_DISK = 2 << 30
"""Bytes: the weights of a model of 500 million parameters, in float32."""


def examine() -> Iterator[Finding]:
    """Versions, processor, free memory and free disk."""
    yield _finding("glass-export", f"{glass_export.__version__} in {Path(__file__).parents[1]}")
    yield _finding("Python", f"{platform.python_version()}, {sys.executable}")
    system = f"{platform.system()} {platform.machine()}"
    yield _finding("system", f"{system}, {checked_threads(None)} usable CPUs")
    yield _memory()
    yield _disk()


def _memory() -> Finding:
    total, free = memory()
    if total is None:
        return _finding("memory", "not known on this system")
    shown = gigabytes(total) + (f", {gigabytes(free)} available" if free is not None else "")
    if free is not None and free < _LITTLE_MEMORY:
        fix = "end other programs: an export takes about 3 times the model's float32 weights"
        return Finding(group=_GROUP, name="memory", value=shown, state="note", fix=fix, size=total)
    return Finding(group=_GROUP, name="memory", value=shown, size=total)


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory: all of the machine's, and what is available; None where it is not told."""
    names = os.sysconf_names if hasattr(os, "sysconf") else {}
    told = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if told else None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return total, None
    values = {line.split(":")[0]: line.split()[1] for line in lines if ":" in line}
    available = values.get("MemAvailable")
    return total, None if available is None else int(available) * 1024


def _disk() -> Finding:
    folder = cache_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    value = f"{gigabytes(free)} free at {folder}"
    if free < _LITTLE_DISK:
        fix = "free some space, or set GLASS_EXPORT_CACHE to a folder on another disk"
        return Finding(group=_GROUP, name="disk", value=value, state="note", fix=fix, size=free)
    return Finding(group=_GROUP, name="disk", value=value, size=free)


def caches() -> Iterator[Finding]:
    """Size of each kind of thing in the cache, and of the Hugging Face hub's own."""
    root = cache_dir()
    kinds = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for path in kinds:
        yield _cache(path.name, path)
    if not kinds:
        yield Finding(group="cache", name="all", value=f"empty, {root}", size=0)
    if (hub := _hub_cache()).is_dir():
        yield _cache("Hugging Face hub", hub)


def _cache(name: str, path: Path) -> Finding:
    size = folder_size(path)
    return Finding(group="cache", name=name, value=f"{size / 1e6:,.1f} MB, {path}", size=size)


def _hub_cache() -> Path:
    """Where huggingface_hub keeps models. Source: its page "Environment variables"."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{base}/huggingface")).expanduser() / "hub"


def folder_size(path: Path) -> int:
    """Bytes of all files below ``path``; links count as such, files that vanish do not."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def gigabytes(size: int) -> str:
    """A number of bytes in GB (10^9 bytes)."""
    return f"{size / 1e9:,.1f} GB"


def _finding(name: str, value: str) -> Finding:
    return Finding(group=_GROUP, name=name, value=value)
