"""mobile_demo/android/glass: the Java library over JNI, run by this machine's virtual machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import conversation
import host_jvm
import pytest

Exported = Callable[..., Path]

pytestmark = pytest.mark.skipif(host_jvm.find_jdk() is None, reason=host_jvm.NO_JDK)


@pytest.fixture(scope="module")
def artifact(exported: Exported) -> Path:
    return exported("llama", "executorch")


def test_contract(jni_test: Callable[..., str], artifact: Path, tmp_path: Path) -> None:
    """Errors, text, settings, sampling, cancellation, threads and closing."""
    jni_test("contract", artifact, host_jvm.damaged_copy(artifact, tmp_path / "damaged"))


@pytest.mark.parametrize("density", ["1.0", "0.5"])
def test_a_conversation_as_the_session(
    jni_test: Callable[..., str], artifact: Path, density: str
) -> None:
    """The same greedy tokens in every turn, and as many of them reused."""
    expected = conversation.greedy_lines(artifact, 8, float(density))
    printed = jni_test("converse", artifact, "8", density, *conversation.QUESTIONS)
    assert printed.splitlines() == expected
    assert int(expected[1].partition(":")[0]) > 0


@pytest.mark.slow
def test_a_thousand_sessions_leave_nothing(jni_test: Callable[..., str], artifact: Path) -> None:
    grown = int(jni_test("leaks", artifact, "1000"))
    assert grown < 3_000, f"{grown} kB in 500 sessions"
