"""libsodium, of which ``csrc/driver`` takes the check of Ed25519 signatures.

It comes in the source distribution of ``PyNaCl``. ``python -m glass_export.libsodium`` fetches it
and prints the folder, for CMake's ``GLASS_LIBSODIUM_DIR``.
"""

from __future__ import annotations

from pathlib import Path

from glass_export.source_archive import SourceArchive

_FOLDER = "src/libsodium"
_SOURCES = f"{_FOLDER}/src/libsodium"
ARCHIVE = SourceArchive(
    package="pynacl",
    root="pynacl-1.6.2",
    sha256="018494d6d696ae03c7e656e5e74cdfd8ea1326962cc401bcf018f1ed8436811c",
    needed=(
        f"{_FOLDER}/LICENSE",
        f"{_SOURCES}/crypto_core/ed25519/ref10/",
        f"{_SOURCES}/crypto_hash/sha512/cp/",
        f"{_SOURCES}/crypto_sign/ed25519/ref10/",
        f"{_SOURCES}/crypto_verify/",
        f"{_SOURCES}/include/sodium/",
        f"{_SOURCES}/sodium/codecs.c",
    ),
)


def fetch() -> Path:
    """Folder with ``crypto_sign``, ``include`` and others; fetched when it is not cached.

    Raises:
        SourceError: see :meth:`.SourceArchive.fetch`.
    """
    return ARCHIVE.fetch("libsodium") / _SOURCES


if __name__ == "__main__":
    print(fetch())
