"""Folders outside an artifact."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Folder for downloads and remembered results: $GLASS_EXPORT_CACHE, else the user's cache."""
    chosen = os.environ.get("GLASS_EXPORT_CACHE")
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("glass-export"))
    )
