"""Signatures of artifacts: Ed25519 over the bytes of ``glass.json``, which hold the SHA-256 of
every other file.

``glass.json.sig`` has a line for each key that signed; the format is in ``artifacts/README.md``.
Source: RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glass_export.errors import ArtifactCode, ArtifactError, SigningError
from glass_export.manifest import MANIFEST_NAME

SIGNATURE_NAME = f"{MANIFEST_NAME}.sig"
MAX_SIGNATURES = 16
_LINE = re.compile(rb"ed25519 [0-9a-f]{16} [A-Za-z0-9+/]{86}==\n")
_LINE_BYTES = 114
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: 32 bytes, written as 44 characters of base64."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key that ``text`` is base64 of, white space around it aside. Raises SigningError."""
        word = text.strip()
        try:
            raw = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        key = cls(raw)
        if len(raw) != _KEY_BYTES or key.text != word:
            raise SigningError(
                f"trusted key {word[:60]!r}: expected the base64 of an Ed25519 public key, 44 "
                "characters, as `glass-export keygen` writes it to KEY.pub"
            )
        return key

    @property
    def text(self) -> str:
        """The key in base64."""
        return base64.b64encode(self.raw).decode()

    @property
    def id(self) -> str:
        """What signatures name the key by: 16 hex digits."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether ``signature``, 64 bytes, is this key's of ``content``."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except InvalidSignature:
            return False
        return True


def parse_keys(texts: Iterable[str]) -> list[PublicKey]:
    """Trusted keys from their base64. Raises SigningError, also when there is none."""
    if isinstance(texts, str):
        texts = texts.split()
    keys = [PublicKey.parse(text) for text in texts]
    if not keys:
        raise SigningError("trusted keys: got none; give at least one, or ask for no signature")
    return keys


def signature_line(key_id: str, signature: bytes) -> bytes:
    """The line of ``glass.json.sig`` for a signature of 64 bytes."""
    return f"ed25519 {key_id} {base64.b64encode(signature).decode()}\n".encode()


def read_signatures(root: Path) -> dict[str, list[bytes]]:
    """The signatures beside a manifest by key id, each 64 bytes; empty when there are none.

    Raises:
        ArtifactError: ``glass.json.sig`` is damaged.
    """
    path = root / SIGNATURE_NAME
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_SIGNATURES * _LINE_BYTES + 1)
    except OSError as problem:
        raise _refused(f"{path}: cannot be read ({problem})") from problem
    found: dict[str, list[bytes]] = {}
    for start in range(0, len(content), _LINE_BYTES):
        line = content[start : start + _LINE_BYTES]
        if not _LINE.fullmatch(line) or start >= MAX_SIGNATURES * _LINE_BYTES:
            raise _damaged(path)
        _, key_id, encoded = line.decode().split()
        signature = base64.b64decode(encoded)
        if base64.b64encode(signature).decode() != encoded:
            raise _damaged(path)
        found.setdefault(key_id, []).append(signature)
    return found


def require_signature(root: Path, content: bytes, trusted: Iterable[str]) -> None:
    """Refuse a manifest that no trusted key has signed.

    Args:
        root: The artifact's directory.
        content: The bytes of its manifest.
        trusted: Public keys in base64.

    Raises:
        SigningError: a trusted key is not one, or there is none.
        ArtifactError: the artifact is not signed, by none of these keys, or was altered since.
    """
    keys = {key.id: key for key in parse_keys(trusted)}
    found = read_signatures(root)
    wanted = f"trusted: {', '.join(keys)}"
    if not found:
        raise _refused(
            f"{root}: not signed, no {SIGNATURE_NAME} ({wanted}); get the artifact from who "
            "signs it"
        )
    known = [key for key_id, key in keys.items() if key_id in found]
    if not known:
        raise _refused(
            f"{root}: signed by {', '.join(found)}, not by a trusted key ({wanted}); get it from "
            "who signs with one of these"
        )
    if not any(key.verifies(signature, content) for key in known for signature in found[key.id]):
        raise _refused(
            f"{root / MANIFEST_NAME}: altered since it was signed, the signature by "
            f"{', '.join(key.id for key in known)} is not of it; copy the artifact again, or have "
            "it signed again"
        )


def _damaged(path: Path) -> ArtifactError:
    return _refused(
        f"{path}: damaged, expected 1 to {MAX_SIGNATURES} lines `ed25519 KEY-ID SIGNATURE`; copy "
        "the artifact again, or remove the file and sign again"
    )


def _refused(message: str) -> ArtifactError:
    return ArtifactError(message, ArtifactCode.SIGNATURE)
