"""Folders outside an artifact."""

from __future__ import annotations

import os
import time
from pathlib import Path

import platformdirs

_since = 0.0
"""Results that were kept before this time do not count; seconds since the epoch."""


def forget_results() -> None:
    """Let results that are in the cache now count as missing, for the rest of the process."""
    global _since
    _since = time.time()


def is_kept(path: Path) -> bool:
    """Whether a result is in the cache that may be used; see :func:`forget_results`."""
    return path.is_file() and path.stat().st_mtime >= _since


def cache_dir() -> Path:
    """Folder for downloads and remembered results: $GLASS_EXPORT_CACHE, else the user's cache."""
    chosen = os.environ.get("GLASS_EXPORT_CACHE")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("glass-export"))
    )
