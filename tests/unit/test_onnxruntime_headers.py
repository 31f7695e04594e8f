"""Finding and fetching the headers of ONNX Runtime, mostly with scripts for apt and dpkg."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from glass_export import onnxruntime_headers
from glass_export.errors import NativeError
from glass_export.onnxruntime_headers import HEADER, OVERRIDE, api_version, find, folder

APT_GET = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *download*) echo package > libonnxruntime-dev_1_all.deb ;;
esac
"""
FAILING_APT_GET = """#!/bin/sh
echo "E: no route to host" >&2
exit 100
"""
DPKG_DEB = """#!/bin/sh
/bin/mkdir -p "$3/usr/include/onnxruntime"
echo '#define ORT_API_VERSION {version}' > "$3/usr/include/onnxruntime/onnxruntime_c_api.h"
"""
PKG_CONFIG = """#!/bin/sh
echo {folder}
"""


def headers(path: Path, version: int = 21) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / HEADER).write_text(f"#pragma once\n\n#define ORT_API_VERSION {version}\n")
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a machine without headers and tools, but with Debian's keys."""
    (tmp_path / "keyring.gpg").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime_headers, "_KEYRING", tmp_path / "keyring.gpg")
    monkeypatch.setattr(
        onnxruntime_headers, "_SYSTEM_FOLDERS", (tmp_path / "usr", tmp_path / "local")
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def tool(machine: Path, name: str, text: str) -> None:
    path = machine / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def debian(machine: Path, version: int = 21) -> Path:
    """Give the machine apt and dpkg; returns the file that lists apt's calls."""
    log = machine / "apt.log"
    tool(machine, "apt-get", APT_GET.format(log=log))
    tool(machine, "dpkg-deb", DPKG_DEB.format(version=version))
    return log


def test_the_chosen_folder_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers(machine / "usr")
    chosen = headers(machine / "chosen", 18)
    monkeypatch.setenv(OVERRIDE, str(chosen))
    assert find() == folder() == chosen and api_version(chosen) == 18


@pytest.mark.parametrize(("version", "got"), [(None, "got no such header"), (17, "got 1.17")])
def test_a_chosen_folder_that_is_not_usable_is_an_error(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: int | None, got: str
) -> None:
    headers(machine / "usr")
    chosen = machine / "chosen" if version is None else headers(machine / "chosen", version)
    monkeypatch.setenv(OVERRIDE, str(chosen))
    expected = f"{OVERRIDE}={chosen}: expected a folder with the {HEADER} of ONNX Runtime 1.18"
    with pytest.raises(NativeError, match=f"{expected} or newer, {got}"):
        folder()


def test_the_systems_folders_are_searched_in_order(machine: Path) -> None:
    known = headers(machine / "known")
    tool(machine, "pkg-config", PKG_CONFIG.format(folder=known))
    assert find() == known
    local = headers(machine / "local")
    assert find() == local
    headers(machine / "usr", 17)
    assert find() == local  # the other one is too old
    assert find() == local and headers(machine / "usr") == find()


def test_they_are_fetched_once_from_debian(machine: Path) -> None:
    log = debian(machine)
    assert find() is None
    fetched = folder()
    assert find() == folder() == fetched and api_version(fetched) == 21
    assert fetched.is_relative_to(machine / "cache" / "native")
    update, download = log.read_text().splitlines()
    assert update.endswith("update --error-on=any")
    assert download.endswith("download libonnxruntime-dev")
    for setting in ("Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Etc::sourcelist"):
        assert f"-o{setting}={machine / 'cache'}" in download
    assert sorted(p.name for p in fetched.parent.iterdir()) == [
        fetched.name,
        f"{fetched.name}.lock",
    ]


def test_a_failed_fetch_shows_what_apt_said(machine: Path) -> None:
    debian(machine)
    tool(machine, "apt-get", FAILING_APT_GET)
    with pytest.raises(NativeError, match="libonnxruntime-dev failed: E: no route to host; inst"):
        folder()
    assert find() is None


def test_headers_of_debian_that_are_too_old_are_not_kept(machine: Path) -> None:
    debian(machine, version=17)
    with pytest.raises(NativeError, match=r"libonnxruntime-dev holds 1\.17, expected 1\.18 or new"):
        folder()
    assert find() is None


def test_without_apt_the_message_tells_what_to_do(machine: Path) -> None:
    (machine / "keyring.gpg").unlink()
    with pytest.raises(NativeError) as caught:
        folder()
    message = str(caught.value)
    assert f"looked for {HEADER} in ${OVERRIDE}, {machine / 'usr'}, {machine / 'local'}" in message
    assert f"for lack of apt-get, dpkg-deb, {machine / 'keyring.gpg'}" in message
    assert "apt install libonnxruntime-dev" in message and f"set {OVERRIDE} to a folder" in message
    assert "--set target.custom_ops=false" in message


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("apt-get") or not onnxruntime_headers._KEYRING.is_file(),
    reason="needs apt and Debian's keys",
)
def test_debian_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path))
    monkeypatch.setattr(onnxruntime_headers, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr(onnxruntime_headers, "_pkg_config", lambda: [])
    assert api_version(folder()) == 21
