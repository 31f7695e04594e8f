"""Building, finding and loading the native libraries, mostly with a project of one file."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from glass_export import native, onnxruntime_headers
from glass_export.errors import NativeError

CMAKELISTS = """
cmake_minimum_required(VERSION 3.25)
project(one LANGUAGES CXX)
add_library(glass_core_c SHARED src/one.cpp)
set_target_properties(glass_core_c PROPERTIES OUTPUT_NAME glass_core)
"""
FILES = {
    "CMakeLists.txt": CMAKELISTS,
    "include/glass/one.h": "#pragma once\n",
    "src/one.cpp": 'extern "C" int answer() { return 42; }\n',
    "capi/capi.cpp": "\n",
    "executorch/operators.cpp": "\n",
    "onnxruntime/operators.cpp": "\n",
    "run/main.cpp": "\n",
}
LIBRARIES = ("core", "executorch", "onnxruntime")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source tree in the place of ours, and an empty cache."""
    folder = tmp_path / "csrc"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(native, "SOURCES", folder)
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(native.OVERRIDE, raising=False)
    monkeypatch.setenv(onnxruntime_headers.OVERRIDE, str(headers(tmp_path / "headers", 21)))
    return folder


def headers(folder: Path, version: int) -> Path:
    """A folder with as much of ONNX Runtime's headers as is looked at."""
    folder.mkdir(exist_ok=True)
    text = f"#pragma once\n#define ORT_API_VERSION {version}\n"
    (folder / onnxruntime_headers.HEADER).write_text(text)
    return folder


@pytest.fixture
def builds(sources: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the libraries that were built; a build takes a moment and compiles nothing."""
    done: list[str] = []

    def build(name: str, path: Path) -> None:
        time.sleep(0.1)
        done.append(name)
        path.write_text(str(len(done)))

    monkeypatch.setattr(native, "_build", build)
    return done


def test_a_library_is_built_once_and_again_when_forced(sources: Path) -> None:
    path = native.library("core")
    assert native.built("core") and not native.built("executorch")
    assert ctypes.CDLL(str(path)).answer() == 42
    first = path.stat()
    assert native.library("core").stat().st_mtime_ns == first.st_mtime_ns
    again = native.library("core", force=True)
    assert again == path and again.stat().st_ino != first.st_ino
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, "lock"]


def test_a_failed_build_shows_what_the_compiler_said(sources: Path) -> None:
    (sources / "src" / "one.cpp").write_text("int answer() { return no_such_name; }\n")
    with pytest.raises(NativeError, match="no_such_name") as caught:
        native.library("core")
    message = str(caught.value)
    assert "building the native library failed at `" in message and " --build ...`" in message
    assert native.BUILD_COMMAND in message and "target.custom_ops=false" in message
    assert len(message.splitlines()) < 35
    assert not native.built("core")


def test_calls_at_the_same_time_build_once(builds: list[str]) -> None:
    barrier = threading.Barrier(4)

    def call(_: int) -> Path:
        barrier.wait()
        return native.library("core")

    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(call, range(4)))
    assert builds == ["core"] and len(paths) == 1 and paths.pop().read_text() == "1"


@pytest.mark.parametrize(
    ("file", "affected"),
    [
        ("CMakeLists.txt", set(LIBRARIES)),
        ("include/glass/one.h", set(LIBRARIES)),
        ("src/one.cpp", set(LIBRARIES)),
        ("src/new.cpp", set(LIBRARIES)),
        ("capi/capi.cpp", {"core"}),
        ("executorch/operators.cpp", {"executorch"}),
        ("onnxruntime/operators.cpp", {"onnxruntime"}),
        ("run/main.cpp", set()),
        ("README.md", set()),
    ],
)
def test_a_library_belongs_to_the_sources_it_is_built_from(
    sources: Path, builds: list[str], file: str, affected: set[str]
) -> None:
    before = {name: native.library(name) for name in LIBRARIES}
    with (sources / file).open("a") as stream:
        stream.write("# changed\n")
    after = {name: native.library(name) for name in LIBRARIES}
    assert {name for name in before if before[name] != after[name]} == affected
    assert builds[3:] == sorted(affected)


def test_the_operators_belong_to_one_version_of_executorch(
    builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [native.library("core"), native.library("executorch")]
    monkeypatch.setattr(native.metadata, "version", lambda package: "99.0")
    after = [native.library("core"), native.library("executorch")]
    assert before[0] == after[0] and before[1] != after[1]


def test_without_executorch_the_package_is_named(
    builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native.util, "find_spec", lambda name: None)
    with pytest.raises(NativeError, match=r"'executorch', which is not installed; run `pip"):
        native.library("executorch")
    assert builds == []


def test_the_operators_belong_to_one_version_of_onnx_runtimes_headers(
    builds: list[str], tmp_path: Path
) -> None:
    before = [native.library("core"), native.library("onnxruntime")]
    headers(tmp_path / "headers", 23)
    assert not native.built("onnxruntime")
    after = [native.library("core"), native.library("onnxruntime")]
    assert before[0] == after[0] and before[1] != after[1]


def test_headers_that_are_missing_are_fetched_before_the_build(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []
    monkeypatch.setattr(native.onnxruntime_headers, "find", lambda: found[0] if found else None)
    monkeypatch.setattr(
        native.onnxruntime_headers, "folder", lambda: found.append(tmp_path / "headers")
    )
    assert not native.built("onnxruntime")
    path = native.library("onnxruntime")
    assert builds == ["onnxruntime"] and native.built("onnxruntime")
    assert path.name == f"libglass_onnxruntime{native._SUFFIX}"


def test_without_headers_nothing_is_built(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(onnxruntime_headers.OVERRIDE, str(tmp_path))
    with pytest.raises(NativeError, match=r"expected a folder with the onnxruntime_c_api\.h of"):
        native.library("onnxruntime")
    assert builds == []


def fake_cmake(folder: Path, version: str) -> Path:
    folder.mkdir()
    path = folder / "cmake"
    path.write_text(f"#!/bin/sh\necho 'cmake version {version}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without tools: ``scripts`` is the environment's folder, ``bin`` the path."""
    monkeypatch.setattr(native.sysconfig, "get_path", lambda name: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def test_no_cmake(bare: Path) -> None:
    with pytest.raises(NativeError, match=r"no CMake 3\.28 or newer: got none \(pip install cm"):
        native.library("core")


def test_every_old_cmake_is_named(bare: Path) -> None:
    fake_cmake(bare / "scripts", "3.27.9")
    fake_cmake(bare / "bin", "2.99.1")
    with pytest.raises(NativeError, match=r"got .*scripts/cmake \(version 3\.27\), ") as caught:
        native.library("core")
    assert "bin/cmake (version 2.99)" in str(caught.value)
    assert native.BUILD_COMMAND in str(caught.value)


def test_the_environments_cmake_comes_first_unless_it_is_too_old(bare: Path) -> None:
    on_path = fake_cmake(bare / "bin", "4.0.1")
    assert native.find_cmake() == str(on_path)
    beside = fake_cmake(bare / "scripts", "3.28.0")
    assert native.find_cmake() == str(beside)
    beside.write_text("#!/bin/sh\necho 'cmake version 3.9.6'\n")
    assert native.find_cmake() == str(on_path)


def test_no_compiler(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cmake(bare / "bin", "4.0.1")
    with pytest.raises(NativeError, match=r"no C\+\+ compiler: looked for c\+\+, g\+\+, clang\+\+"):
        native.library("core")
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.raises(NativeError, match=r"looked for /nonexistent, expected one with C\+\+17"):
        native.library("core")


def test_the_chosen_folder_is_used_as_it_is(
    builds: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path))
    with pytest.raises(NativeError, match=r"libglass_core\.\w+: no such file; GLASS_EXPORT_NATIVE"):
        native.library("core")
    assert not native.built("core")
    file = tmp_path / f"libglass_core{native._SUFFIX}"
    file.touch()
    assert native.built("core") and native.library("core", force=True) == file
    assert builds == []


@pytest.fixture
def unloaded() -> Iterator[None]:
    """As if no operators were loaded."""
    native.load_operators.cache_clear()
    yield
    native.load_operators.cache_clear()


@pytest.mark.parametrize("content", ["garbage", "another library"])
def test_a_library_that_is_not_ours_is_refused(
    unloaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    foreign = Path(np.linalg._umath_linalg.__file__).read_bytes()
    file = tmp_path / f"libglass_executorch{native._SUFFIX}"
    file.write_bytes(b"garbage" if content == "garbage" else foreign)
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path))
    with pytest.raises(NativeError, match=r"not a usable operator library: .* run `glass-export b"):
        native.load_operators()
    assert native.take_error() == ""


def test_a_quiet_block_ends_also_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), native._no_stderr():
        os.write(2, b"inside")
        raise KeyError
    os.write(2, b"outside")
    assert capfd.readouterr().err == "outside"
