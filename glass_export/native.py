"""The native libraries: built from ``csrc`` on first use, kept in the cache, loaded once.

The cache holds one build per state of the sources and of the libraries they are compiled against.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from filelock import FileLock

from glass_export import onnxruntime_headers
from glass_export.errors import NativeError
from glass_export.files import scratch_folder, sync
from glass_export.log import logger, progress
from glass_export.paths import cache_dir

Library = Literal["core", "executorch", "onnxruntime"]

SOURCES = Path(__file__).parent / "csrc"
OVERRIDE = "GLASS_EXPORT_NATIVE"
BUILD_COMMAND = "glass-export build-native"
# Session config entry of ONNX Runtime, to be set before the operators are registered: the number of
# threads of the session, which they cannot ask for. Without it they take that of all processors.
ONNXRUNTIME_THREADS = "ai.glass.intra_op_num_threads"
_PARTS = {
    "core": ("capi",),
    "executorch": ("executorch", "packing"),
    "onnxruntime": ("onnxruntime", "packing"),
}
_TARGETS = {
    "core": "glass_core_c",
    "executorch": "glass_executorch",
    "onnxruntime": "glass_onnxruntime",
}
_COMPILERS = ("c++", "g++", "clang++")
_MINIMUM_CMAKE = (3, 28)
_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
_HELP = (
    f"install what is missing and run `{BUILD_COMMAND}`, or set {OVERRIDE} to a folder that holds "
    "the built library, or export with --set target.custom_ops=false"
)


def library(name: Library, *, force: bool = False) -> Path:
    """Path of a native library, which is built when it is not there yet.

    Args:
        name: ``core``, the kernels behind a C interface; ``executorch`` or ``onnxruntime``, the
            operators for these runtimes.
        force: Build it even when it is there.

    Raises:
        NativeError: it cannot be built: no compiler, no CMake, no ExecuTorch, no headers of ONNX
            Runtime, or a failed build.
    """
    overridden = bool(os.environ.get(OVERRIDE))
    if name == "onnxruntime" and not overridden:
        onnxruntime_headers.folder()  # fetched before the first build; they are part of its digest
    path = path_of(name)
    if overridden:
        if not path.is_file():
            raise NativeError(
                f"{path}: no such file; {OVERRIDE} must name the folder that holds it"
            )
        return path
    if force or not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "lock"):
            if force or not path.is_file():
                _build(name, path)
    return path


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error inside the block."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def built(name: Library) -> bool:
    """Whether the library is there already."""
    return path_of(name).is_file()


@functools.cache
def load_operators() -> ctypes.CDLL:
    """Load the ``executorch`` library into this process, which registers its operators.

    ExecuTorch's own libraries must be loaded already.

    Raises:
        NativeError: see :func:`library`; or it cannot be loaded or is not ours.
    """
    path = library("executorch")
    try:
        loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        loaded.glass_abi_version.restype = ctypes.c_int32
        loaded.glass_active_isa.restype = ctypes.c_char_p
        loaded.glass_release_packed.restype = None
        with _no_stderr():  # the runtime complains there that its log is taken over
            loaded.glass_capture_log()
    except (OSError, AttributeError) as problem:
        raise NativeError(
            f"{path}: not a usable operator library: {problem}; "
            f"run `{BUILD_COMMAND} --force` to build it again"
        ) from problem
    logger.debug("native operators %s, %s", path, loaded.glass_active_isa().decode())
    return loaded


def release_packed() -> None:
    """Free the copies of chosen neurons that ExecuTorch's operators hold; they are made anew."""
    if load_operators.cache_info().currsize:
        load_operators().glass_release_packed()


def take_error() -> str:
    """The first error that ExecuTorch has logged since the last call.

    Empty when there was none, or when its operators are not loaded.
    """
    if not load_operators.cache_info().currsize:
        return ""
    buffer = ctypes.create_string_buffer(2048)
    load_operators().glass_take_errors(buffer, ctypes.c_size_t(len(buffer)))
    return buffer.value.decode("utf-8", "replace").partition("; ")[0]


def path_of(name: Library) -> Path:
    """Where a native library is, or would be.

    Raises:
        NativeError: ExecuTorch is not installed, for its operators; or no headers are where the
            environment says, for those of ONNX Runtime.
    """
    chosen = os.environ.get(OVERRIDE)
    folder = Path(chosen).expanduser() if chosen else cache_dir() / "native" / _digest(name)
    return folder / f"libglass_{name}{_SUFFIX}"


def _digest(name: Library) -> str:
    """Of all that a build depends on, apart from the compiler."""
    digest = hashlib.sha256(f"{name} {platform.system()} {platform.machine()}".encode())
    if name == "executorch":
        digest.update(str(executorch_folder()).encode())
        digest.update(metadata.version("executorch").encode())
    elif name == "onnxruntime" and (headers := onnxruntime_headers.find()):
        digest.update(str(onnxruntime_headers.api_version(headers)).encode())
    folders = ("include", "src", *_PARTS[name])
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file() and path.relative_to(SOURCES).parts[0] in (*folders, "CMakeLists.txt"):
            digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def executorch_folder() -> Path:
    """Folder of the package ``executorch``, which is a C++ SDK too. Raises NativeError."""
    found = util.find_spec("executorch")
    if found is None or not found.submodule_search_locations:
        raise NativeError(
            "the operators are compiled against the package 'executorch', which is not installed; "
            "run `pip install 'glass-export[executorch]'`"
        )
    return Path(next(iter(found.submodule_search_locations)))


def _build(name: Library, path: Path) -> None:
    cmake, compiler = find_cmake(), find_compiler()
    options = ["-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_CXX_COMPILER={compiler}"]
    options += _options(name)
    with (
        progress("building the native library (once)", None, "steps"),
        scratch_folder(path.parent, "build-") as folder,
    ):
        run_step([cmake, "-S", str(SOURCES), "-B", str(folder), *options])
        jobs = str(os.cpu_count() or 1)
        run_step([cmake, "--build", str(folder), "--target", _TARGETS[name], "--parallel", jobs])
        (built,) = folder.rglob(path.name)
        sync(built)
        os.replace(built, path)
        sync(path.parent)


def _options(name: Library) -> list[str]:
    """What CMake is told about one library."""
    if name == "executorch":
        return ["-DGLASS_BUILD_EXECUTORCH=ON", f"-DCMAKE_PREFIX_PATH={executorch_folder()}"]
    if name == "onnxruntime":
        headers = onnxruntime_headers.folder().resolve()
        return ["-DGLASS_BUILD_ONNXRUNTIME=ON", f"-DGLASS_ONNXRUNTIME_INCLUDE={headers}"]
    return ["-DGLASS_BUILD_CAPI=ON"]


def run_step(command: list[str]) -> None:
    """Run one command of a build. Raises NativeError with the end of its output when it fails."""
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        output = f"{outcome.stdout}\n{outcome.stderr}".strip().splitlines()
        tail = "\n".join(f"  {line}" for line in output[-30:])
        raise NativeError(
            f"building the native library failed at `{' '.join(command[:2])} ...`:\n{tail}\n{_HELP}"
        )


def find_compiler() -> str:
    """The C++ compiler: $CXX, else the first one on the path. Raises NativeError."""
    wanted = os.environ.get("CXX")
    names = (wanted,) if wanted else _COMPILERS
    for name in names:
        if found := shutil.which(name):
            return found
    raise NativeError(
        f"no C++ compiler: looked for {', '.join(names)}, expected one with C++17 (GCC 9, Clang 10 "
        f"or newer; on Debian: apt install g++); {_HELP}"
    )


def find_cmake() -> str:
    """CMake of this environment, else the one on the path. Raises NativeError."""
    beside = Path(sysconfig.get_path("scripts")) / "cmake"
    seen = []
    for candidate in (str(beside) if beside.is_file() else None, shutil.which("cmake")):
        if candidate is None:
            continue
        text = subprocess.run([candidate, "--version"], capture_output=True, text=True).stdout
        match = re.search(r"version (\d+)\.(\d+)", text)
        if match and tuple(map(int, match.groups())) >= _MINIMUM_CMAKE:
            return candidate
        seen.append(f"{candidate} ({match.group(0) if match else 'of unknown version'})")
    needed = ".".join(map(str, _MINIMUM_CMAKE))
    raise NativeError(
        f"no CMake {needed} or newer: got {', '.join(seen) or 'none'} (pip install cmake); {_HELP}"
    )
