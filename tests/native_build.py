"""Builds of the native code with its tests, kept in the user's cache and brought up to date."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from glass_export import native, tokenizers_cpp
from glass_export.paths import cache_dir

ROOT = Path(__file__).resolve().parent.parent


def everything() -> Path:
    """Build folder of the core, the ExecuTorch operators, glass_run and all C++ tests."""
    executorch = native.executorch_folder()
    return _build(
        f"{executorch} {metadata.version('executorch')}",
        "-DGLASS_BUILD_EXECUTORCH=ON",
        "-DGLASS_BUILD_RUN=ON",
        f"-DCMAKE_PREFIX_PATH={executorch}",
        f"-DGLASS_TOKENIZERS_DIR={tokenizers_cpp.fetch().resolve()}",
    )


def core(sanitize: str) -> Path:
    """Build folder of the core and its tests, instrumented: ``address,undefined`` or ``thread``.

    Nothing of ExecuTorch is in it, whose libraries come without instrumentation.
    """
    return _build(f"sanitize {sanitize}", f"-DGLASS_SANITIZE={sanitize}")


_CROSS_COMPILER, _EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
EMULATED = (_EMULATOR, "-cpu", "max")
"""Prefix of a command that runs a program of :func:`arm`."""


NO_EMULATOR = "needs an emulator of Arm: apt install qemu-user g++-aarch64-linux-gnu"


def can_emulate_arm() -> bool:
    """Whether :func:`arm` works here: Debian's qemu-user and g++-aarch64-linux-gnu."""
    return all(map(shutil.which, (_CROSS_COMPILER, _EMULATOR)))


def arm() -> Path:
    """Build folder of the core and its tests for 64-bit Arm, which ctest runs in an emulator."""
    return _build(
        "aarch64",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={_CROSS_COMPILER}",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(EMULATED)}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )


def ctest(folder: Path) -> None:
    """Run the C++ tests of a build. Fails with their output."""
    command = [
        *_fixed_addresses(), str(Path(native.find_cmake()).with_name("ctest")),
        "--test-dir", str(folder), "--output-on-failure", "--no-tests=error", "--timeout", "300",
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}"


def _build(kind: str, *options: str) -> Path:
    """Configure and build; what is up to date is kept, as in any CMake build folder.

    A folder belongs to one checkout, since CMake's files name its paths.
    """
    digest = hashlib.sha256(f"{ROOT} {native.find_compiler()} {kind}".encode()).hexdigest()[:16]
    parent = cache_dir() / "native"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent.resolve() / f"tests-{digest}"
    cmake = native.find_cmake()
    with FileLock(f"{folder}.lock"):
        native.run_step(
            [
                cmake, "-S", str(native.SOURCES), "-B", str(folder), "-DGLASS_BUILD_TESTS=ON",
                f"-DCMAKE_CXX_COMPILER={native.find_compiler()}", *options,
            ]
        )  # fmt: skip
        native.run_step([cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1)])
    return folder


def _fixed_addresses() -> list[str]:
    """A prefix that turns address randomisation off, where that is allowed.

    ThreadSanitizer of older compilers starts with no more than 28 bits of it.
    """
    prefix = ["setarch", "-R"]
    if not shutil.which(prefix[0]):
        return []
    return prefix if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0 else []
