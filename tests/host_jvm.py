"""Java on this machine: the JDK that compiles and runs the Android library's classes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

from glass_export.paths import cache_dir

LIBRARY = Path(__file__).parent.parent / "mobile_demo" / "android" / "glass"
NO_JDK = "needs a JDK of version 17 or newer: apt install openjdk-17-jdk-headless"
RELEASE = "17"  # of the language and the classes, as in mobile_demo/android


_KERNEL = "kotlin-jupyter-kernel==0.19.0.944"
_KERNEL_SHA256 = "dc654a426a28e6621aeb0bd7772d268a9a877aabae4a17b73383752a416281a3"


@dataclass(frozen=True, slots=True)
class Kotlin:
    """A Kotlin compiler and what its programs need: the standard library and coroutines."""

    compiler: Path
    libraries: tuple[Path, ...]


def fetch_kotlin() -> Kotlin:
    """The compiler that the Python package of a Jupyter kernel brings (80 MB, once).

    It is the one way to a current Kotlin from a package index. Nothing of it is installed.
    """
    folder = cache_dir() / "kotlin" / _KERNEL_SHA256[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not list(folder.glob("*-all.jar")):
            _download_kernel(folder)
    (everything,) = folder.glob("kotlin-jupyter-kernel-*-all.jar")
    (standard,) = folder.glob("kotlin-stdlib-*.jar")
    return Kotlin(everything, (standard, everything))


def _download_kernel(folder: Path) -> None:
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{_KERNEL} --hash=sha256:{_KERNEL_SHA256}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--dest", str(folder), "--requirement", str(pinned),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for member in packed.infolist():
            if Path(member.filename).name.startswith(("kotlin-stdlib-", "kotlin-jupyter-kernel-")):
                member.filename = Path(member.filename).name
                packed.extract(member, folder)
    wheel.unlink()


def damaged_copy(artifact: Path, target: Path) -> Path:
    """A copy of an artifact of a tiny model, in which one letter of the tokenizer is another."""
    shutil.copytree(artifact, target)
    tokenizer = target / "tokenizer.json"
    whole = tokenizer.read_bytes()
    tokenizer.write_bytes(whole.replace(b"fox", b"f0x", 1))
    assert tokenizer.read_bytes() != whole
    return target


@cache
def find_jdk() -> Path | None:
    """Folder of a JDK with a compiler and jni.h: $JAVA_HOME, or that of the javac on the path."""
    candidates = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    if compiler := shutil.which("javac"):
        candidates.append(Path(compiler).resolve().parent.parent)
    for folder in candidates:
        if (folder / "bin" / "javac").is_file() and (folder / "include" / "jni.h").is_file():
            return folder
    return None


def compile_java(sources: list[Path], output: Path, *classpath: Path) -> None:
    """Compile to a folder of classes. Fails with what the compiler said, warnings included."""
    _run(
        "javac", "--release", RELEASE, "-Xlint:all,-serial", "-Werror", "-d", output,
        "-cp", os.pathsep.join(map(str, classpath)), *sources,
    )  # fmt: skip


def compile_kotlin(kotlin: Kotlin, sources: list[Path], output: Path, *classpath: Path) -> None:
    """Compile to a folder of classes. Fails with what the compiler said, warnings included."""
    _run(
        "java", "-Xmx1500m", "-cp", kotlin.compiler,
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror",
        "-jvm-target", RELEASE, "-cp", os.pathsep.join(map(str, (*kotlin.libraries, *classpath))),
        "-d", output, *sources,
    )  # fmt: skip


def run_java(main: str, *arguments: str | Path, classpath: list[Path], libraries: Path) -> str:
    """What a main class prints, with JNI's own checks on and a phone's limit on Java's memory.

    Fails when the program does, or when one of those checks does.
    """
    outcome = _run(
        "java", "-Xcheck:jni", "-Xmx256m", "-ea", f"-Djava.library.path={libraries}",
        "-cp", os.pathsep.join(map(str, classpath)), main, *arguments,
    )  # fmt: skip
    assert "JNI" not in outcome.stdout + outcome.stderr, outcome.stdout + outcome.stderr
    return outcome.stdout


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    jdk = find_jdk()
    assert jdk is not None, NO_JDK
    command = [str(jdk / "bin" / tool), *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 0, f"{' '.join(command)}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome
