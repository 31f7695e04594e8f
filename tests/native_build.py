"""Builds of the native code with its tests, kept in the user's cache and brought up to date."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import host_jvm
from filelock import FileLock

from glass_export import libsodium, llama_cpp, native, tokenizers_cpp
from glass_export.paths import cache_dir

ROOT = Path(__file__).resolve().parent.parent
MOBILE = ROOT / "mobile_demo" / "core"


def everything() -> Path:
    """Build folder of mobile_demo/core with ExecuTorch; in its folder ``csrc`` are the core, the
    ExecuTorch operators, the driver and glass_run. All C and C++ tests are built, too, and the
    library for Java where there is a JDK.
    """
    executorch = native.executorch_folder()
    return _build(
        f"{executorch} {metadata.version('executorch')}",
        f"-DCMAKE_PREFIX_PATH={executorch}",
        "-DGLASS_BUILD_TESTS=ON",
        "-DGLASS_BUILD_RUN=ON",
        f"-DGLASS_BUILD_JNI={'ON' if host_jvm.find_jdk() else 'OFF'}",
        *_mobile("executorch"),
        source=MOBILE,
    )


def sanitized(kind: str) -> Path:
    """Build folder of mobile_demo/core over a fake engine, the core and all their tests,
    instrumented: ``address,undefined`` or ``thread``.

    Nothing of ExecuTorch is in it, whose libraries come without instrumentation.
    """
    return _build(f"sanitize {kind}", f"-DGLASS_SANITIZE={kind}", *_engineless(), source=MOBILE)


def _engineless() -> tuple[str, ...]:
    return ("-DGLASS_BUILD_TESTS=ON", *_mobile("none"))


def _mobile(engine: str) -> tuple[str, ...]:
    return (f"-DGLASS_ENGINE={engine}", "-DGLASS_BUILD_MOBILE_TESTS=ON", *_third_party())


def _third_party() -> tuple[str, ...]:
    return (
        f"-DGLASS_TOKENIZERS_DIR={tokenizers_cpp.fetch().resolve()}",
        f"-DGLASS_LLAMA_CPP_DIR={llama_cpp.fetch().resolve()}",
        f"-DGLASS_LIBSODIUM_DIR={libsodium.fetch().resolve()}",
    )


_CROSS_COMPILER, _EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
EMULATED = (_EMULATOR, "-cpu", "max")
"""Prefix of a command that runs a program of :func:`arm`."""

_ARM = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    f"-DCMAKE_C_COMPILER={_CROSS_COMPILER.replace('g++', 'gcc')}",
    f"-DCMAKE_CXX_COMPILER={_CROSS_COMPILER}",
    f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(EMULATED)}",
    "-DCMAKE_EXE_LINKER_FLAGS=-static",
)

NO_EMULATOR = "needs an emulator of Arm: apt install qemu-user g++-aarch64-linux-gnu"


def can_emulate_arm() -> bool:
    """Whether :func:`arm` works here: Debian's qemu-user and g++-aarch64-linux-gnu."""
    return all(map(shutil.which, (_CROSS_COMPILER, _EMULATOR)))


def arm() -> Path:
    """The same as :func:`sanitized` for 64-bit Arm, not instrumented, to be run in an emulator."""
    return _build("aarch64", *_ARM, *_engineless(), source=MOBILE)


def run_test(program: Path, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> None:
    """Run one test program of a build. Fails with its output."""
    command = [*fixed_addresses(), *prefix, str(program), *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}"


def ctest(folder: Path) -> None:
    """Run the C++ tests of a build. Fails with their output."""
    command = [
        *fixed_addresses(), str(Path(native.find_cmake()).with_name("ctest")),
        "--test-dir", str(folder), "--output-on-failure", "--no-tests=error", "--timeout", "300",
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}"


def _build(kind: str, *options: str, source: Path = native.SOURCES) -> Path:
    """Configure and build; what is up to date is kept, as in any CMake build folder.

    A folder belongs to one checkout, since CMake's files name its paths.
    """
    digest = hashlib.sha256(f"{source} {native.find_compiler()} {kind}".encode()).hexdigest()[:16]
    parent = cache_dir() / "native"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent.resolve() / f"tests-{digest}"
    cmake = native.find_cmake()
    with FileLock(f"{folder}.lock"):
        native.run_step(
            [
                cmake, "-S", str(source), "-B", str(folder),
                f"-DCMAKE_CXX_COMPILER={native.find_compiler()}", *options,
            ]
        )  # fmt: skip
        native.run_step([cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1)])
    return folder


def fixed_addresses() -> list[str]:
    """A prefix that turns address randomisation off, where that is allowed.

    ThreadSanitizer of older compilers starts with no more than 28 bits of it.
    """
    prefix = ["setarch", "-R"]
    if not shutil.which(prefix[0]):
        return []
    return prefix if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0 else []
