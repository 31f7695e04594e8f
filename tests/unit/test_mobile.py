"""mobile_demo/core: the C interface for apps, as C programs use it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import conversation
import native_build
import pytest

Exported = Callable[..., Path]


@pytest.fixture(scope="module")
def artifact(exported: Exported) -> Path:
    return exported("llama", "executorch")


def test_c_interface(native_tests: Path, artifact: Path) -> None:
    native_build.run_test(native_tests / "tests" / "test_glass", artifact)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_c_interface_under_sanitizers(artifact: Path, sanitize: str) -> None:
    build = native_build.sanitized(sanitize)
    native_build.run_test(build / "tests" / "test_glass", artifact)


@pytest.mark.slow
def test_memory_that_runs_out_anywhere(artifact: Path) -> None:
    """Every one of the first 400 allocations of each part, then one of 500; `make torture`: all."""
    build = native_build.sanitized("address,undefined")
    native_build.run_test(build / "tests" / "test_out_of_memory", artifact, "500")


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_load_under_sanitizers(artifact: Path, sanitize: str) -> None:
    build = native_build.sanitized(sanitize)
    native_build.run_test(build / "tests" / "torture_fake", artifact, "300", "4")


def test_load(native_tests: Path, artifact: Path) -> None:
    """Over ExecuTorch; `make torture` for longer, where growth of memory is told from noise."""
    command = [native_tests / "tests" / "torture_glass", artifact, "100", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert " 0 wrong; " in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not native_build.can_emulate_arm(), reason=native_build.NO_EMULATOR)
def test_c_interface_on_an_emulated_arm_processor(artifact: Path, tmp_path: Path) -> None:
    build = native_build.arm()
    native_build.run_test(build / "tests" / "test_glass", artifact, prefix=native_build.EMULATED)
    stripped = tmp_path / "libglass.so"
    library = build / "tests" / "libglass_fake.so"
    subprocess.run(["aarch64-linux-gnu-strip", "-o", stripped, library], check=True)
    assert stripped.stat().st_size <= 2_000_000


@pytest.mark.parametrize("density", ["1.0", "0.5"])
def test_a_conversation_as_the_session(native_tests: Path, artifact: Path, density: str) -> None:
    """The same greedy tokens in every turn, and as many of them reused."""
    expected = conversation.greedy_lines(artifact, 8, float(density))
    command = [
        native_tests / "tests" / "glass_chat",
        artifact,
        "8",
        density,
        *conversation.QUESTIONS,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected
    assert int(expected[1].partition(":")[0]) > 0


def test_the_library_shows_nothing_but_the_interface(native_tests: Path) -> None:
    """Apps link other C++ beside it."""
    library = native_tests / "tests" / "libglass_fake.so"
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert "glass_generate" in names
    assert all(name.startswith("glass_") for name in names), names
