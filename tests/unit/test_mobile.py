"""mobile_demo/core: the C interface for apps, as C programs use it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import conversation
import native_build
import pytest
import runner

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
    """Every one of the first 400 allocations of each part, then one of 25; `make torture`: all."""
    build = native_build.sanitized("address,undefined")
    native_build.run_test(build / "tests" / "test_out_of_memory", artifact, "25")


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
    native_build.run_test(build / "tests" / "test_glass", artifact, prefix=native_build.emulator())
    stripped = tmp_path / "libglass.so"
    library = build / "tests" / "libglass_fake.so"
    subprocess.run(["aarch64-linux-gnu-strip", "-o", stripped, library], check=True)
    assert stripped.stat().st_size <= 2_000_000


def chat(program: Path, artifact: Path, density: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """What the C program prints of a conversation."""
    command = [*prefix, program, artifact, "8", density, *conversation.QUESTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


FORMS = {
    "executorch": ("executorch",),
    "onnx": ("onnx",),
    "onnx-operators": ("onnx", "target.custom_ops=true"),
    "onnx-int4": ("onnx", "target.dtype=int4", "target.custom_ops=true"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("density", ["1.0", "0.5"])
def test_a_conversation_as_the_session(
    native_tests: Path, exported: Exported, form: str, density: str
) -> None:
    """The same greedy tokens in every turn, and as many of them reused."""
    artifact = exported("llama", *FORMS[form])
    expected = conversation.greedy_lines(artifact, 8, float(density))
    assert chat(native_tests / "tests" / "glass_chat", artifact, density) == expected
    assert int(expected[1].partition(":")[0]) > 0


@pytest.mark.slow
@pytest.mark.skipif(not native_build.can_emulate_arm(), reason=native_build.NO_EMULATOR)
@pytest.mark.parametrize("form", ["onnx", "onnx-int4"])
def test_a_conversation_on_an_emulated_arm_processor(exported: Exported, form: str) -> None:
    """ONNX Runtime's own build for Arm; ExecuTorch has none for Linux on the package index."""
    artifact = exported("llama", *FORMS[form])
    program = native_build.arm() / "tests" / "glass_chat"
    expected = conversation.greedy_lines(artifact, 8, 0.5)
    assert chat(program, artifact, "0.5", native_build.emulator()) == expected


def test_stock_integer_operators_are_left_to_python(glass_run: Path, exported: Exported) -> None:
    artifact = exported("llama", "onnx", "target.dtype=int4", "target.custom_ops=false")
    message = runner.refusal(glass_run, artifact, "--prompt", "hello", code=1)
    assert "int4 FFNs are stock operators, which only the Python runtime runs" in message


def test_the_library_shows_nothing_but_the_interface(native_tests: Path) -> None:
    """Apps link other C++ beside it."""
    library = native_tests / "tests" / "libglass_fake.so"
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert "glass_generate" in names
    assert all(name.startswith("glass_") for name in names), names
