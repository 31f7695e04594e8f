"""Source distributions on a package index, of which the C++ code is built.

Python packages that wrap C or C++ libraries carry their sources, so that a package index is all
that a build needs. Only the files that it needs are unpacked, into the cache; nothing is installed,
imported or run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import ssl
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from filelock import FileLock

from glass_export.errors import SourceError
from glass_export.files import scratch_folder, sync, sync_tree
from glass_export.log import progress
from glass_export.paths import cache_dir

SETTINGS = ("index-url", "extra-index-url", "cert", "proxy")
_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceArchive:
    """A pinned source distribution.

    Attributes:
        package: Its project on the index.
        root: The folder in it, which is the name of the archive, too.
        sha256: Of the archive.
        needed: Files and folders (with a slash at the end) to unpack, below ``root``.
    """

    package: str
    root: str
    sha256: str
    needed: tuple[str, ...]

    @property
    def name(self) -> str:
        """The archive's file name."""
        return f"{self.root}.tar.gz"

    def fetch(self, kind: str) -> Path:
        """The folder ``root``; fetched when it is not in the cache, in the folder ``kind``.

        The package indexes, the proxy and the certificates are pip's, from its files and
        environment.

        Raises:
            SourceError: no index is within reach or has the file, one delivers another file than
                the pinned one, or the disk is full.
        """
        folder = cache_dir() / kind / self.sha256[:16]
        target = folder / self.root
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not target.is_dir():
                    data = _download(self, _Index(_pip_settings(), self.package))
                    _unpack(self, data, folder, target)
        except tarfile.TarError as problem:
            raise SourceError(
                f"{self.name}: not a sound archive ({problem}); try again"
            ) from problem
        except OSError as problem:
            raise SourceError(
                f"{self.name}: cannot be fetched to {folder} ({problem}); check the connection and "
                "the free space, or give pip an index within reach (PIP_INDEX_URL or pip.conf)"
            ) from problem
        return target


def _pip_settings() -> dict[str, str]:
    """What pip is told to do: its environment variables, over its files.

    It is asked, since only pip knows all places of its files. pip itself cannot fetch the archive:
    it would run the package's set-up code to learn what it depends on.
    """
    command = [sys.executable, "-P", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    found = dict(re.findall(r"^((?:global|download|:env:)\.[\w-]+)='(.*)'$", listed, re.MULTILINE))
    for name in SETTINGS:  # also where this environment has no pip
        if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
            found[f":env:.{name}"] = value
    levels = ("global", "download", ":env:")
    return {
        name: found[f"{level}.{name}"].replace("\\n", " ")
        for level in levels
        for name in SETTINGS
        if f"{level}.{name}" in found
    }


def _download(archive: SourceArchive, index: _Index) -> bytes:
    """The archive, checked against the pinned hash."""
    data = index.read(_link(archive, index), f"Fetching {archive.name}")
    actual = hashlib.sha256(data).hexdigest()
    if actual != archive.sha256:
        raise SourceError(
            f"{archive.name}: SHA-256 is {actual}, expected {archive.sha256}; try again; if it "
            "fails again, the index delivers another file than this release of glass-export means"
        )
    return data


def _link(archive: SourceArchive, index: _Index) -> str:
    """Address of the archive on the first page that names it."""
    unread: OSError | None = None
    for page_url in index.pages:
        try:
            page = index.read(page_url).decode("utf-8", "replace")
        except OSError as problem:
            unread = unread or problem
            continue
        for link in map(html.unescape, re.findall(r'href="([^"]+)"', page)):
            if urlsplit(link).path.rpartition("/")[2] == archive.name:
                return urljoin(page_url, link)
    if unread is not None:
        raise unread
    raise SourceError(
        f"{', '.join(map(_shown, index.pages))}: has no {archive.name}; give pip an index that has "
        "(PIP_INDEX_URL or pip.conf)"
    )


def _shown(url: str) -> str:
    """An address without its user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _Index:
    """Reads the package indexes that pip is set to."""

    def __init__(self, settings: Mapping[str, str], package: str) -> None:
        context = ssl.create_default_context(cafile=settings.get("cert") or None)
        proxy = settings.get("proxy")
        proxies = {"http": proxy, "https": proxy} if proxy else None  # None: of the environment
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPSHandler(context=context),
        )
        addresses = [settings.get("index-url") or "https://pypi.org/simple"]
        addresses += settings.get("extra-index-url", "").split()
        self.pages = [
            f"{address.rstrip('/')}/{package}/"
            + ("index.html" if address.startswith("file:") else "")
            for address in addresses
        ]

    def read(self, url: str, description: str | None = None) -> bytes:
        """What a URL holds; with a description, under a progress bar."""
        blocks = []
        with self._opener.open(self._request(url), timeout=_TIMEOUT) as answer:
            size = answer.headers.get("Content-Length")
            if description is None:
                return bytes(answer.read())
            with progress(description, float(size) if size else None, "bytes") as task:
                while block := answer.read(_BLOCK):
                    blocks.append(block)
                    task.advance(len(block))
        return b"".join(blocks)

    @staticmethod
    def _request(url: str) -> urllib.request.Request:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http", "file"):
            raise SourceError(
                f"{_shown(url)}: expected an https address; correct pip's index-url or "
                "extra-index-url"
            )
        request = urllib.request.Request(_shown(url), headers={"Accept": "text/html, */*"})
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            value = f"Basic {base64.b64encode(login).decode()}"
            request.add_unredirected_header("Authorization", value)
        return request


def _unpack(archive: SourceArchive, data: bytes, folder: Path, target: Path) -> None:
    """Extract what is needed; ``target`` appears complete or not."""
    needed = tuple(f"{archive.root}/{path}" for path in archive.needed)
    with scratch_folder(folder, "unpack-") as scratch:
        packed_file = scratch / archive.name
        packed_file.write_bytes(data)
        with tarfile.open(packed_file) as packed:
            members = [member for member in packed if member.name.startswith(needed)]
            packed.extractall(scratch, members, filter="data")
        sync_tree(scratch / archive.root)
        (scratch / archive.root).rename(target)
    sync(folder)
