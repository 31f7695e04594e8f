"""What ``csrc/driver`` takes of llama.cpp: its Jinja engine, nlohmann/json and SHA-256.

It comes in the source distribution of ``xllamacpp``; chat templates of well-known models, which are
in it too, serve the tests. ``python -m glass_export.llama_cpp`` fetches it (38 MB) and prints the
folder, for CMake's ``GLASS_LLAMA_CPP_DIR``.
"""

from __future__ import annotations

from pathlib import Path

from glass_export.source_archive import SourceArchive

_FOLDER = "thirdparty/llama.cpp"
ARCHIVE = SourceArchive(
    package="xllamacpp",
    root="xllamacpp-2026.10.11549",
    sha256="c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b",
    needed=tuple(
        f"{_FOLDER}/{path}"
        for path in (
            "LICENSE",
            "common/jinja/",
            "common/json.",
            "common/unicode.",
            "models/templates/",
            "vendor/hash/rotate-bits/",
            "vendor/hash/sha256/",
            "vendor/nlohmann/",
        )
    ),
)


def fetch() -> Path:
    """Folder with ``common/jinja``, ``vendor`` and ``models/templates``; fetched when not cached.

    Raises:
        SourceError: see :meth:`.SourceArchive.fetch`.
    """
    return ARCHIVE.fetch("llama_cpp") / _FOLDER


if __name__ == "__main__":
    print(fetch())
