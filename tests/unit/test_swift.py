"""mobile_demo/ios: the Swift package, compiled and run where Swift for Linux is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import conversation
import host_jvm
import pytest

IOS = Path(__file__).parents[2] / "mobile_demo" / "ios"
NO_SWIFT = "needs Swift 6 (500 MB, not fetched): on Debian 13, apt install swiftlang"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("swiftc") is None, reason=NO_SWIFT),
]


@pytest.fixture(scope="module")
def check(native_tests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program GlassCheck, over the libglass of the tests' build."""
    folder = tmp_path_factory.mktemp("swift")
    common = [
        "-warnings-as-errors", "-strict-concurrency=complete", "-I", IOS / "Sources/CGlass",
        "-L", native_tests, "-Xlinker", "-rpath", "-Xlinker", native_tests,
        "-Xlinker", "-rpath", "-Xlinker", folder,
        # Swift 6.0's own Observation for Linux refers to a symbol that it does not bring.
        "-Xlinker", "--allow-shlib-undefined",
    ]  # fmt: skip
    _swiftc(
        *common, "-parse-as-library", "-emit-library", "-emit-module", "-module-name", "Glass",
        "-emit-module-path", folder / "Glass.swiftmodule", "-o", folder / "libGlass.so",
        *sorted((IOS / "Sources/Glass").glob("*.swift")),
    )  # fmt: skip
    program = folder / "GlassCheck"
    main = IOS / "Tests/GlassCheck/main.swift"
    _swiftc(*common, "-I", folder, "-L", folder, "-lGlass", "-o", program, main)
    return program


@pytest.fixture(scope="module")
def artifact(exported: Callable[..., Path]) -> Path:
    return exported("llama", "executorch")


def test_contract(check: Path, artifact: Path, tmp_path: Path) -> None:
    """Errors, text, streams, cancellation, import, settings, and what is behind the screens."""
    damaged = host_jvm.damaged_copy(artifact, tmp_path / "damaged")
    _run(check, "contract", artifact, damaged, tmp_path / "scratch")


@pytest.mark.parametrize("density", ["1.0", "0.5"])
def test_a_conversation_as_the_session(check: Path, artifact: Path, density: str) -> None:
    printed = _run(check, "converse", artifact, "8", density, *conversation.QUESTIONS)
    assert printed.splitlines() == conversation.greedy_lines(artifact, 8, float(density))


def _swiftc(*arguments: str | Path) -> None:
    _run("swiftc", *arguments)


def _run(*command: str | Path) -> str:
    outcome = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}"
    return outcome.stdout
