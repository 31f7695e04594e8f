"""Keys that sign artifacts: Ed25519, in the PEM files that OpenSSL and others read, too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glass_export.artifact.signature import PublicKey, signature_line
from glass_export.errors import SigningError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSPHRASE = "GLASS_EXPORT_SIGNING_PASSPHRASE"
"""Environment variable: what private key files are encrypted with; not set, they are not."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key."""

    private: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a private key: PEM, PKCS #8, encrypted or not.

        Raises:
            SigningError: not readable, not an Ed25519 key, or the passphrase is wrong or missing.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(path.read_bytes(), _passphrase())
        except OSError as problem:
            raise SigningError(
                f"{path}: cannot be read ({problem}); `glass-export keygen` makes a key"
            ) from problem
        except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
            raise SigningError(
                f"{path}: not a usable private key ({problem}); expected PEM, and {PASSPHRASE} set "
                "to its passphrase if and only if it is encrypted"
            ) from problem
        if not isinstance(private, Ed25519PrivateKey):
            raise SigningError(
                f"{path}: got a key of the type {type(private).__name__}, expected Ed25519; "
                "`glass-export keygen` makes one"
            )
        return cls(private)

    @property
    def public(self) -> PublicKey:
        """The key that checks this one's signatures."""
        return PublicKey(self.private.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> bytes:
        """The line of ``glass.json.sig`` for a manifest's bytes."""
        return signature_line(self.public.id, self.private.sign(content))


def generate_key(path: Path) -> PublicKey:
    """Write a new private key to ``path``, for its owner alone, and the public one to ``path.pub``.

    It is encrypted when the environment has a passphrase for it.

    Raises:
        SigningError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, secret = SigningKey(Ed25519PrivateKey.generate()), _passphrase()
    pem = key.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption(),
    )
    try:
        _create(path.with_name(f"{path.name}.pub"), f"{key.public.text}\n".encode(), mode=0o644)
        _create(path, pem, mode=0o600)
    except OSError as problem:
        raise SigningError(
            f"{problem.filename}: a new key cannot be written there ({problem.strerror}); no key "
            "is ever overwritten, choose another name"
        ) from problem
    return key.public


def _create(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not be there yet. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE, "").encode() or None
