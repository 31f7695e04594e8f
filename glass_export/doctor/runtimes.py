"""Runtimes that can be opened, the native libraries for them, and what builds these."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from glass_export import native, onnxruntime_headers
from glass_export.doctor.finding import Finding, State
from glass_export.doctor.packages import installed
from glass_export.errors import NativeError
from glass_export.runtime.engines import ENGINES

SLOW = ("executorch",)
"""Targets whose runtime takes seconds to open."""
_PATIENCE = 120  # seconds
_NATIVE: tuple[native.Library, ...] = ("executorch", "onnxruntime")
_PROBE = """
import ctypes, importlib, sys
from glass_export import native
module, library = sys.argv[1:]
importlib.import_module(module)
if native.built(library):
    path = str(native.library(library))
    operators = native.load_operators() if library == "executorch" else ctypes.CDLL(path)
    operators.glass_active_isa.restype = ctypes.c_char_p
    print("isa", operators.glass_active_isa().decode())
"""
"""A program of its own, since a runtime that does not fit the machine may end the process."""


def examine(*, full: bool) -> Iterator[Finding]:
    """Runtimes, operators, compilers. ``full``: open slow runtimes, too."""
    present = {target: _present(target) for target in ENGINES}
    if not any(present.values()):
        yield Finding(
            group="runtimes", name="all", value="none is installed", state="problem",
            fix="pip install 'glass-export[onnxruntime]', or [executorch]",
        )  # fmt: skip
    for target, there in present.items():
        yield from _runtime(target, there, full)
    tools = list(_tools())
    buildable = all(tool.state == "ok" for tool in tools)
    for library in _NATIVE:
        if any(there and ENGINES[target][2] == library for target, there in present.items()):
            yield _library(library, buildable)
    yield from tools
    if present["onnx"]:
        yield _headers()


def _present(target: str) -> bool:
    return find_spec(ENGINES[target][2]) is not None


def _runtime(target: str, there: bool, full: bool) -> Iterator[Finding]:
    """A runtime, and the instruction set that its operators use."""
    module, _, package = ENGINES[target]
    if not there:
        yield Finding(
            group="runtimes", name=package, value="not installed", state="note",
            fix=f"pip install 'glass-export[{package}]'",
        )  # fmt: skip
        return
    version = installed(package) or "of unknown version"
    if target in SLOW and not full:
        yield Finding(group="runtimes", name=package, value=f"{version}, not opened (--full does)")
        return
    outcome = _probe(module, package)
    if outcome.returncode:
        end = (outcome.stderr.strip().splitlines() or [f"it ended with {outcome.returncode}"])[-1]
        yield Finding(
            group="runtimes", name=package, value=f"{version}, cannot be opened: {end}",
            state="problem", fix=f"pip install --force-reinstall 'glass-export[{package}]'",
        )  # fmt: skip
        return
    yield Finding(group="runtimes", name=package, value=f"{version}, opens")
    isa = [line.split()[1] for line in outcome.stdout.splitlines() if line.startswith("isa ")]
    if isa:
        chosen = os.environ.get("GLASS_ISA")
        value = isa[0] + (f", GLASS_ISA is {chosen}" if chosen else "")
        yield Finding(group="native", name=f"{package}, instruction set", value=value)


def _probe(module: str, library: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROBE, module, library]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_PATIENCE} s")


def _library(name: native.Library, buildable: bool) -> Finding:
    """Whether a library of operators is built. Without one ExecuTorch runs portable exports alone,
    ONNX Runtime all that were not exported with --custom-ops.
    """
    label = f"{name}, operators"
    try:
        path = native.path_of(name)
    except NativeError as problem:
        return Finding(
            group="native", name=label, value=str(problem), state="problem",
            fix=f"pip install --force-reinstall 'glass-export[{name}]'",
        )  # fmt: skip
    if path.is_file():
        return Finding(group="native", name=label, value=f"built, {path}")
    if os.environ.get(native.OVERRIDE):
        return Finding(
            group="native", name=label, value=f"{native.OVERRIDE} is set, but no file {path}",
            state="problem", fix=f"unset {native.OVERRIDE}, or put the built library there",
        )  # fmt: skip
    needed = name == "executorch" and not buildable
    fix = f"{native.BUILD_COMMAND} {name}" + (
        "" if buildable else ", once compiler and CMake are there"
    )
    state: State = "problem" if needed else "note"
    value = "not built yet" + (", and cannot be" if not buildable else "; it is on first use")
    return Finding(group="native", name=label, value=value, state=state, fix=fix)


def _tools() -> Iterator[Finding]:
    yield _tool("C++ compiler", native.find_compiler, "apt install g++, or set CXX")
    yield _tool("CMake", native.find_cmake, "pip install 'cmake>=3.28'")


def _tool(name: str, find: Callable[[], str], fix: str) -> Finding:
    try:
        path = find()
    except NativeError as problem:
        reason = str(problem).partition(";")[0]
        return Finding(group="native", name=name, value=reason, state="note", fix=fix)
    outcome = subprocess.run([path, "--version"], capture_output=True, text=True)
    version = next(iter(outcome.stdout.splitlines()), "of unknown version")
    return Finding(group="native", name=name, value=f"{path}: {version}")


def _headers() -> Finding:
    """Those that operators for ONNX Runtime are built with."""
    name = "ONNX Runtime headers"
    try:
        folder = onnxruntime_headers.find()
    except NativeError as problem:
        fix = f"unset {onnxruntime_headers.OVERRIDE}"
        return Finding(group="native", name=name, value=str(problem), state="problem", fix=fix)
    if folder is None:
        return Finding(
            group="native", name=name, value="none; needed to build operators for it",
            state="note", fix=f"{native.BUILD_COMMAND} onnxruntime fetches them from Debian",
        )  # fmt: skip
    version = onnxruntime_headers.api_version(folder)
    return Finding(group="native", name=name, value=f"1.{version}, {folder}")
