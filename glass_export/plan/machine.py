"""What the machine has: memory and disk space that a process can still get."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes of memory that are free or can be freed, within the limit of a container.

    All of the memory where the system does not tell what is in use; None where it tells nothing.
    """
    free = _free() or _installed()
    limit = _container_room()
    return limit if free is None else free if limit is None else min(free, limit)


def free_disk(folder: Path) -> int:
    """Free bytes where ``folder`` is, or will be once it exists."""
    return shutil.disk_usage(_existing(folder)).free


def same_disk(first: Path, second: Path) -> bool:
    """Whether two folders, which need not exist yet, are on one file system."""
    return _existing(first).stat().st_dev == _existing(second).stat().st_dev


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    return there


def _free() -> int | None:
    """Linux: MemAvailable."""
    if not _MEMINFO.exists():
        return None
    lines = _MEMINFO.read_text().splitlines()
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _installed() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_room() -> int | None:
    """What a cgroup (version 2) still allows; None without a limit."""
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
    except OSError:
        return None
    return None if limit.strip() == "max" else max(0, int(limit) - int(used))
