"""PCRE2, which the tokenizer in ``csrc/driver`` is built on.

It comes in the source distribution of ``pytorch_tokenizers``.
``python -m glass_export.tokenizers_cpp`` fetches it and prints the folder, for CMake's
``GLASS_TOKENIZERS_DIR``.
"""

from __future__ import annotations

from pathlib import Path

from glass_export.source_archive import SourceArchive

ARCHIVE = SourceArchive(
    package="pytorch-tokenizers",
    root="pytorch_tokenizers-1.0.1",
    sha256="19938c0efd5348fb0589610094c1c6bf6e055b20889f6250068d2b552a0b137b",
    needed=("LICENSE", "third-party/pcre2/"),
)


def fetch() -> Path:
    """Folder with ``third-party/pcre2``; fetched when it is not cached.

    Raises:
        SourceError: see :meth:`.SourceArchive.fetch`.
    """
    return ARCHIVE.fetch("tokenizers_cpp")


if __name__ == "__main__":
    print(fetch())
