"""Java on this machine: the JDK that compiles and runs the Android library's classes."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "mobile_demo" / "android" / "glass"
NO_JDK = "needs a JDK of version 17 or newer: apt install openjdk-17-jdk-headless"
RELEASE = "17"  # of the language and the classes, as in mobile_demo/android


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


def run_java(
    main: str, *arguments: str | Path, classpath: list[Path], libraries: Path
) -> subprocess.CompletedProcess[str]:
    """Run a main class with JNI's own checks on, and no more memory than a phone's process has."""
    return _run(
        "java", "-Xcheck:jni", "-Xmx256m", "-ea", f"-Djava.library.path={libraries}",
        "-cp", os.pathsep.join(map(str, classpath)), main, *arguments,
    )  # fmt: skip


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    jdk = find_jdk()
    assert jdk is not None, NO_JDK
    command = [str(jdk / "bin" / tool), *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 0, f"{' '.join(command)}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome
