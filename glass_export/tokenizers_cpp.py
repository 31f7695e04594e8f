"""The C++ libraries under glass_run's tokenizer: PCRE2 and nlohmann/json.

Both come in the source distribution of ``pytorch_tokenizers``, so that a package index is all that
a build needs. ``python -m glass_export.tokenizers_cpp`` fetches it and prints the folder, for
CMake's ``GLASS_TOKENIZERS_DIR``. Nothing in it is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from filelock import FileLock

from glass_export.errors import SourceError
from glass_export.log import progress
from glass_export.paths import cache_dir

VERSION = "1.0.1"
SHA256 = "19938c0efd5348fb0589610094c1c6bf6e055b20889f6250068d2b552a0b137b"
_ROOT = f"pytorch_tokenizers-{VERSION}"
_ARCHIVE = f"{_ROOT}.tar.gz"
_NEEDED = tuple(
    f"{_ROOT}/{path}"
    for path in ("LICENSE", "third-party/pcre2/", "third-party/json/single_include/")
)
_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without an answer


def fetch() -> Path:
    """Folder with ``third-party/pcre2`` and ``third-party/json``; fetched when it is not cached.

    The index is pip's: $PIP_INDEX_URL, else pypi.org; $PIP_CERT, when set, is what is trusted.

    Raises:
        SourceError: the index is out of reach, delivers another file than the pinned one, or the
            disk is full.
    """
    folder = cache_dir() / "tokenizers_cpp" / SHA256[:16]
    target = folder / _ROOT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not target.is_dir():
                _unpack(_download(), folder, target)
    except tarfile.TarError as problem:
        raise SourceError(f"{_ARCHIVE}: not a sound archive ({problem}); try again") from problem
    except OSError as problem:
        raise SourceError(
            f"{_ARCHIVE}: cannot be fetched to {folder} ({problem}); check the connection and the "
            "free space, or set PIP_INDEX_URL to an index within reach"
        ) from problem
    return target


def _download() -> bytes:
    """The archive, checked against the pinned hash."""
    page_url = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page_url += "/pytorch-tokenizers/"
    page = _read(page_url).decode("utf-8", "replace")
    links = [link for link in re.findall(r'href="([^"]+)"', page) if _file_name(link) == _ARCHIVE]
    if not links:
        raise SourceError(f"{page_url}: has no {_ARCHIVE}; set PIP_INDEX_URL to an index that has")
    data = _read(urljoin(page_url, links[0]), f"Fetching {_ARCHIVE}")
    actual = hashlib.sha256(data).hexdigest()
    if actual != SHA256:
        raise SourceError(
            f"{_ARCHIVE}: SHA-256 is {actual}, expected {SHA256}; try again; if it fails again, "
            "the index delivers another file than this release of glass-export means"
        )
    return data


def _file_name(link: str) -> str:
    return urlsplit(link).path.rpartition("/")[2]


def _read(url: str, description: str | None = None) -> bytes:
    """What a URL holds; with a description, under a progress bar."""
    if urlsplit(url).scheme not in ("https", "http", "file"):
        raise SourceError(f"{url}: expected an https address; correct PIP_INDEX_URL")
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    request = urllib.request.Request(url, headers={"Accept": "text/html, */*"})
    blocks = []
    with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context) as answer:
        size = answer.headers.get("Content-Length")
        if description is None:
            return bytes(answer.read())
        with progress(description, float(size) if size else None, "bytes") as task:
            while block := answer.read(_BLOCK):
                blocks.append(block)
                task.advance(len(block))
    return b"".join(blocks)


def _unpack(data: bytes, folder: Path, target: Path) -> None:
    """Extract what is needed; ``target`` appears complete or not."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="unpack-") as scratch:
        archive = Path(scratch) / _ARCHIVE
        archive.write_bytes(data)
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.name.startswith(_NEEDED)]
            packed.extractall(scratch, members, filter="data")
        shutil.move(Path(scratch) / _ROOT, target)


if __name__ == "__main__":
    print(fetch())
