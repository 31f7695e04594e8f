"""Keeps references in the cache: for a large model they take longer than everything else but text.

A key covers all that a reference depends on, the project's own code for it included: a change of
that code, even of a comment, makes the reference again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import glass_export
from glass_export.errors import ArtifactError
from glass_export.log import logger
from glass_export.paths import cache_dir, is_kept
from glass_export.prior import read_tensors
from glass_export.verify.reference import Reference

_CODE = ("bundles.py", "scoring.py", "keys.py", "nn", "targets", "verify")
_TOOLS = ("torch", "transformers", "torchao")


def kept_reference(key: dict[str, Any], make: Callable[[], Reference]) -> Reference:
    """The reference of ``key`` from the cache, or else a new one, which is kept.

    Args:
        key: What the reference depends on, as plain data; code and versions are added.
        make: Computes it.
    """
    versions = {name: metadata.version(name) for name in _TOOLS}
    text = json.dumps({**key, "code": _code_digest(), "versions": versions}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    path = cache_dir() / "references" / f"{name}.safetensors"
    if is_kept(path):
        try:
            read_tensors(path)  # compares its checksum
            return Reference.load(path)
        except ArtifactError as problem:
            logger.warning("cached reference: %s; ignored, it is made again", problem)
    reference = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reference.save(path)
    except OSError as problem:
        logger.warning("cached reference: cannot write %s (%s); going on without", path, problem)
    return reference


@cache
def _code_digest() -> str:
    """Of the modules that compute references."""
    digest, root = hashlib.sha256(), Path(glass_export.__file__).parent
    for place in (root / name for name in _CODE):
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
