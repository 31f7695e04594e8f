"""Changes the manifest of a finished artifact; a kill at any moment leaves the old one or the new.

``glass.json`` and its checksum are two files. The checksum gets a second line for the time of the
change, so that it fits the old manifest and the new one.
"""

from __future__ import annotations

import json
from pathlib import Path

import filelock

from glass_export.artifact.reader import (
    CHECKSUM_NAME,
    PARTIAL_NAME,
    Artifact,
    checksum_line,
    sibling,
)
from glass_export.errors import ArtifactError
from glass_export.files import sync
from glass_export.manifest import MANIFEST_NAME
from glass_export.schema import to_data
from glass_export.selection import Profile


def write_profile(path: Path | str, name: str, profile: Profile) -> Artifact:
    """Add a profile to an artifact, or replace the one of that name; nothing else is changed.

    Args:
        path: The artifact's directory.
        name: Name of the profile.
        profile: The profile.

    Returns:
        The artifact as it is then.

    Raises:
        ArtifactError: the artifact is damaged, which a full check finds before anything is
            written; it is in use by an export; or it cannot be written.
    """
    root = Artifact.open(Path(path).resolve()).path  # before a lock is put beside it
    try:
        with filelock.FileLock(sibling(root, "lock"), timeout=0):
            Artifact.open(root, check="full")
            data = json.loads((root / MANIFEST_NAME).read_bytes())
            data["profiles"] = {**data.get("profiles", {}), name: to_data(profile)}
            _replace_manifest(root, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
            return Artifact.open(root)
    except filelock.Timeout as problem:
        raise ArtifactError(
            f"{root}: in use by an export or another tuning; wait for it, then try again"
        ) from problem
    except OSError as problem:
        raise ArtifactError(
            f"{root}: cannot be written ({problem}); copy the artifact to where it can"
        ) from problem


def _replace_manifest(root: Path, text: str) -> None:
    """Put a manifest and its checksum in the place of the old ones. Raises OSError."""
    old, new = (root / MANIFEST_NAME).read_bytes(), text.encode()
    _replace(root / CHECKSUM_NAME, checksum_line(old) + checksum_line(new))
    _replace(root / MANIFEST_NAME, new)
    _replace(root / CHECKSUM_NAME, checksum_line(new))


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(PARTIAL_NAME)
    try:
        partial.write_bytes(content)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)
