"""Builds of the native code with its tests, kept in the user's cache and brought up to date."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import host_jvm
import onnxruntime_library
from filelock import FileLock

from glass_export import libsodium, llama_cpp, native, onnxruntime_headers, tokenizers_cpp
from glass_export.paths import cache_dir

ROOT = Path(__file__).resolve().parent.parent
MOBILE = ROOT / "mobile_demo" / "core"


def everything() -> Path:
    """Build folder of mobile_demo/core with both engines; in its folder ``csrc`` are the core, the
    operators, the driver and glass_run. All C and C++ tests are built, too, and the library for
    Java where there is a JDK.
    """
    executorch, engine = native.executorch_folder(), onnxruntime_library.installed()
    return _build(
        f"{executorch} {metadata.version('executorch')} {engine}",
        f"-DCMAKE_PREFIX_PATH={executorch}",
        "-DGLASS_BUILD_TESTS=ON",
        "-DGLASS_BUILD_RUN=ON",
        f"-DGLASS_BUILD_JNI={'ON' if host_jvm.find_jdk() else 'OFF'}",
        *_mobile("executorch;onnxruntime"),
        *_onnxruntime(engine),
        source=MOBILE,
    )


def sanitized(kind: str) -> Path:
    """Build folder of mobile_demo/core over a fake engine, the core and all their tests,
    instrumented: ``address,undefined`` or ``thread``.

    Nothing of ExecuTorch is in it, whose libraries come without instrumentation.
    """
    quick = ("-DCMAKE_C_FLAGS_RELEASE=-O1", "-DCMAKE_CXX_FLAGS_RELEASE=-O1")  # to compile
    options = ("-DGLASS_BUILD_TESTS=ON", *quick, *_mobile("none"))
    return _build(f"sanitize {kind}", f"-DGLASS_SANITIZE={kind}", *options, source=MOBILE)


def _mobile(engine: str) -> tuple[str, ...]:
    return (f"-DGLASS_ENGINE={engine}", "-DGLASS_BUILD_MOBILE_TESTS=ON", *_third_party())


def _onnxruntime(engine: Path) -> tuple[str, ...]:
    return (
        f"-DGLASS_ONNXRUNTIME_LIBRARY={engine}",
        f"-DGLASS_ONNXRUNTIME_INCLUDE={onnxruntime_headers.folder().resolve()}",
    )


def _third_party() -> tuple[str, ...]:
    return (
        f"-DGLASS_TOKENIZERS_DIR={tokenizers_cpp.fetch().resolve()}",
        f"-DGLASS_LLAMA_CPP_DIR={llama_cpp.fetch().resolve()}",
        f"-DGLASS_LIBSODIUM_DIR={libsodium.fetch().resolve()}",
    )


_CROSS_COMPILER, _EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
_ARM_LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
# ONNX Runtime asks the system for the processor, and crashes at the answer of another kind of it.
_ARM_PROCESSOR = """\
processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


def emulator() -> tuple[str, ...]:
    """Prefix of a command that runs a program of :func:`arm`.

    Files below the emulator's root hide those of the machine.
    """
    root = cache_dir() / "native" / "aarch64-root"
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(_ARM_PROCESSOR)
    if not (root / "lib").is_symlink():
        with suppress(FileExistsError):  # another process was faster
            (root / "lib").symlink_to(_ARM_LIBRARIES)
    return _EMULATOR, "-cpu", "max", "-L", str(root.resolve())


_ARM = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    f"-DCMAKE_C_COMPILER={_CROSS_COMPILER.replace('g++', 'gcc')}",
    f"-DCMAKE_CXX_COMPILER={_CROSS_COMPILER}",
)

NO_EMULATOR = "needs an emulator of Arm: apt install qemu-user g++-aarch64-linux-gnu"


def can_emulate_arm() -> bool:
    """Whether :func:`arm` works here: Debian's qemu-user and g++-aarch64-linux-gnu."""
    return all(map(shutil.which, (_CROSS_COMPILER, _EMULATOR)))


def arm() -> Path:
    """Build folder of mobile_demo/core with ONNX Runtime, glass_run and all tests for 64-bit Arm.

    To be run in an emulator.
    """
    engine = onnxruntime_library.for_arm()
    options = ("-DGLASS_BUILD_TESTS=ON", "-DGLASS_BUILD_RUN=ON", *_mobile("onnxruntime"))
    runs = f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(emulator())}"
    return _build(f"aarch64 {engine}", *_ARM, runs, *options, *_onnxruntime(engine), source=MOBILE)


NO_FUZZER = "needs Clang's libFuzzer: apt install clang libclang-rt-14-dev"


@functools.cache
def can_fuzz() -> bool:
    """Whether Clang is here and links programs with libFuzzer."""
    if not shutil.which("clang++"):
        return False
    source = b'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }'
    command = ["clang++", "-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", os.devnull]
    return subprocess.run(command, input=source, capture_output=True).returncode == 0


def fuzzers() -> Path:
    """Build folder of the core and the driver with their fuzz targets, by Clang, instrumented."""
    return _build(
        "fuzz",
        "-DGLASS_BUILD_DRIVER=ON", "-DGLASS_BUILD_FUZZ=ON", "-DCMAKE_C_COMPILER=clang",
        "-DCMAKE_CXX_COMPILER=clang++", "-DGLASS_SANITIZE=fuzzer-no-link,address,undefined",
        "-DCMAKE_C_FLAGS_RELEASE=-O1", "-DCMAKE_CXX_FLAGS_RELEASE=-O1", *_third_party(),
    )  # fmt: skip


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
