"""Changes the manifest or the signature of a finished artifact; a kill at any moment leaves the old
one or the new.

``glass.json`` and its checksum are two files. The checksum gets a second line for the time of the
change, so that it fits the old manifest and the new one. A signature is of the old manifest until
it is replaced or removed: who asks for one refuses the artifact for that moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from glass_export.artifact.reader import (
    CHECKSUM_NAME,
    PARTIAL_NAME,
    Artifact,
    checksum_line,
    sibling,
)
from glass_export.artifact.signature import (
    MAX_SIGNATURES,
    SIGNATURE_NAME,
    PublicKey,
    read_signatures,
    signature_line,
)
from glass_export.artifact.signing import SigningKey
from glass_export.errors import ArtifactError
from glass_export.files import sync
from glass_export.log import logger
from glass_export.manifest import MANIFEST_NAME
from glass_export.schema import to_data
from glass_export.selection import Profile


def write_profile(
    path: Path | str, name: str, profile: Profile, *, key: SigningKey | None = None
) -> Artifact:
    """Add a profile to an artifact, or replace the one of that name; nothing else is changed, but
    that signatures of the old manifest go.

    Args:
        path: The artifact's directory.
        name: Name of the profile.
        profile: The profile.
        key: Signs the artifact as it is then; None leaves it unsigned.

    Returns:
        The artifact as it is then.

    Raises:
        ArtifactError: the artifact is damaged, which a full check finds before anything is
            written; it is in use by an export; or it cannot be written.
    """
    root = Artifact.open(Path(path).resolve()).path  # before a lock is put beside it
    with _exclusive(root):
        data = json.loads((root / MANIFEST_NAME).read_bytes())
        data["profiles"] = {**data.get("profiles", {}), name: to_data(profile)}
        content = (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
        _replace_manifest(root, content)
        if key:
            _replace(root / SIGNATURE_NAME, key.sign(content))
        elif (root / SIGNATURE_NAME).exists():
            (root / SIGNATURE_NAME).unlink()
            logger.warning(
                "%s: removed the signature, which was of the artifact without the profile; "
                "`glass-export sign` makes a new one",
                root,
            )
        return Artifact.open(root)


def sign_artifact(path: Path | str, key: SigningKey) -> Artifact:
    """Sign a finished artifact; signatures by other keys stay.

    Raises:
        ArtifactError: as :func:`write_profile`, or too many keys have signed.
    """
    root = Artifact.open(Path(path).resolve()).path
    with _exclusive(root):
        content = (root / MANIFEST_NAME).read_bytes()
        others = _signatures_but(root, key.public)
        if len(others) >= MAX_SIGNATURES:
            raise ArtifactError(
                f"{root / SIGNATURE_NAME}: has {len(others)} signatures, more than there may be "
                f"with another one ({MAX_SIGNATURES}); remove lines of keys that nobody uses"
            )
        _replace(root / SIGNATURE_NAME, b"".join(others) + key.sign(content))
        return Artifact.open(root)


def _signatures_but(root: Path, key: PublicKey) -> list[bytes]:
    """Lines of all signatures that are not by ``key``."""
    return [
        signature_line(key_id, signature)
        for key_id, signatures in read_signatures(root).items()
        for signature in signatures
        if key_id != key.id
    ]


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Hold the lock of an artifact that a full check finds sound; errors become ArtifactError."""
    try:
        with filelock.FileLock(sibling(root, "lock"), timeout=0):
            Artifact.open(root, check="full")
            yield
    except filelock.Timeout as problem:
        raise ArtifactError(
            f"{root}: in use by an export, a tuning or a signing; wait for it, then try again"
        ) from problem
    except OSError as problem:
        raise ArtifactError(
            f"{root}: cannot be written ({problem}); copy the artifact to where it can"
        ) from problem


def _replace_manifest(root: Path, new: bytes) -> None:
    """Put a manifest and its checksum in the place of the old ones. Raises OSError."""
    old = (root / MANIFEST_NAME).read_bytes()
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
