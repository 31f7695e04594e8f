"""Fetching the libraries under the C++ driver, from a package index on this machine."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glass_export import llama_cpp, tokenizers_cpp
from glass_export.errors import SourceError
from glass_export.source_archive import SETTINGS

ROOT = tokenizers_cpp.ARCHIVE.root
ARCHIVE = tokenizers_cpp.ARCHIVE.name
FILES = {
    f"{ROOT}/LICENSE": b"licence",
    f"{ROOT}/setup.py": b"raise SystemExit('never run')",
    f"{ROOT}/third-party/pcre2/CMakeLists.txt": b"project(PCRE2 C)",
}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder; below /private/ it wants the user name ``me`` and the password ``a@b``."""

    def do_GET(self) -> None:
        login = f"Basic {base64.b64encode(b'me:a@b').decode()}"
        if self.path.startswith("/private/") and self.headers["Authorization"] != login:
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """host:port of a server of the folder ``served``; the cache is empty, pip has no settings."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in SETTINGS:
        monkeypatch.delenv(f"PIP_{name.upper().replace('-', '_')}", raising=False)
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


def set_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: str, extra: str = "") -> None:
    """Give pip its indexes in a file, as many machines do."""
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {index}\nextra-index-url = {extra}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))


@pytest.fixture
def index(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's page on pip's only index."""
    set_pip(monkeypatch, tmp_path, f"http://{server}/simple/")
    page = tmp_path / "served" / "simple" / "pytorch-tokenizers"
    page.mkdir(parents=True)
    return page


def publish(page: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an archive of the files on the index, and pin its hash."""
    with tarfile.open(page / ARCHIVE, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (page / "index.html").write_text(
        f'<a href="../other/{ROOT}-py3-none-any.whl">wheel</a>\n'
        f'<a href="{ARCHIVE}#sha256=0">{ARCHIVE}</a>\n'
    )
    digest = hashlib.sha256((page / ARCHIVE).read_bytes()).hexdigest()
    pinned = dataclasses.replace(tokenizers_cpp.ARCHIVE, sha256=digest)
    monkeypatch.setattr(tokenizers_cpp, "ARCHIVE", pinned)


def test_unpacks_what_the_build_needs(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(index, FILES, monkeypatch)
    folder = tokenizers_cpp.fetch()
    found = {str(path.relative_to(folder.parent)) for path in folder.rglob("*") if path.is_file()}
    assert found == FILES.keys() - {f"{ROOT}/setup.py"}


def test_second_fetch_needs_no_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(index, FILES, monkeypatch)
    folder = tokenizers_cpp.fetch()
    (index / ARCHIVE).unlink()
    assert tokenizers_cpp.fetch() == folder


def test_another_file_than_the_pinned_one_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(index, FILES, monkeypatch)
    with (index / ARCHIVE).open("ab") as archive:
        archive.write(b"more")
    with pytest.raises(SourceError, match="SHA-256"):
        tokenizers_cpp.fetch()
    assert not list((tmp_path / "cache").rglob("CMakeLists.txt"))


def test_index_without_the_version(index: Path) -> None:
    (index / "index.html").write_text('<a href="pytorch_tokenizers-0.1.tar.gz">old</a>')
    with pytest.raises(SourceError, match=f"has no {ARCHIVE}; give pip an index"):
        tokenizers_cpp.fetch()


def test_index_out_of_reach(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.rmdir()
    with pytest.raises(SourceError, match="cannot be fetched .*404"):
        tokenizers_cpp.fetch()


def test_archive_cannot_write_outside(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    escaping = f"{ROOT}/third-party/pcre2/../../../../../../evil"
    publish(index, {**FILES, escaping: b"evil"}, monkeypatch)
    with pytest.raises(SourceError, match="not a sound archive"):
        tokenizers_cpp.fetch()
    assert not list(tmp_path.rglob("evil"))


def test_environment_wins_over_the_file(
    index: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    publish(index, FILES, monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{server}/elsewhere")
    with pytest.raises(SourceError, match="cannot be fetched .*404"):
        tokenizers_cpp.fetch()


def test_further_indexes_are_asked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "served" / "second" / "pytorch-tokenizers"
    page.mkdir(parents=True)
    publish(page, FILES, monkeypatch)
    extra = f"\n    file://{tmp_path}/third\n    http://{server}/second"
    set_pip(monkeypatch, tmp_path, f"http://{server}/first", extra)
    assert tokenizers_cpp.fetch().is_dir()


def test_user_name_and_password_are_sent_and_not_shown(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "served" / "private" / "pytorch-tokenizers"
    page.mkdir(parents=True)
    set_pip(monkeypatch, tmp_path, f"http://me:a%40b@{server}/private")
    (page / "index.html").write_text("nothing yet")
    with pytest.raises(SourceError, match="has no") as caught:
        tokenizers_cpp.fetch()
    assert "a%40b" not in str(caught.value)
    publish(page, FILES, monkeypatch)
    assert tokenizers_cpp.fetch().is_dir()


def test_llama_cpp_has_what_the_driver_and_the_tests_need() -> None:
    folder = llama_cpp.fetch()
    for path in ("common/jinja/runtime.h", "vendor/nlohmann/json.hpp", "vendor/hash/sha256"):
        assert (folder / path).exists(), path
    assert len(list((folder / "models" / "templates").glob("*.jinja"))) > 50
