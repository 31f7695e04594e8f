"""mobile_demo/android/glass: the Kotlin behind the screens, compiled and run on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import host_jvm
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(host_jvm.find_jdk() is None, reason=host_jvm.NO_JDK),
]


def test_behind_the_screens(
    exported: Callable[..., Path], native_tests: Path, java_classes: Path, tmp_path: Path
) -> None:
    """Loading, chat, cancellation, comparison, benchmark, import, settings and their errors."""
    artifact = exported("llama", "executorch")
    damaged = host_jvm.damaged_copy(artifact, tmp_path / "damaged")
    scratch, classes = tmp_path / "scratch", tmp_path / "classes"
    scratch.mkdir()
    kotlin = host_jvm.fetch_kotlin()
    sources = sorted((host_jvm.LIBRARY / "src").rglob("*.kt"))
    host_jvm.compile_kotlin(kotlin, sources, classes, java_classes)
    classpath = [classes, java_classes, *kotlin.libraries]
    libraries = native_tests / "jni"
    host_jvm.run_java(
        "ai.glass.ChatTestKt", artifact, damaged, scratch, classpath=classpath, libraries=libraries
    )
