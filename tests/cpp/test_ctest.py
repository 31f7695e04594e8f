"""The C++ tests, run by ctest, in release builds and under sanitizers."""

from __future__ import annotations

from pathlib import Path

import native_build
import pytest


def test_cpp_tests_pass(native_tests: Path) -> None:
    native_build.ctest(native_tests)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_cpp_tests_of_the_core_pass_under_sanitizers(sanitize: str) -> None:
    native_build.ctest(native_build.sanitized(sanitize))


@pytest.mark.slow
@pytest.mark.skipif(not native_build.can_emulate_arm(), reason=native_build.NO_EMULATOR)
def test_cpp_tests_of_the_core_pass_on_an_emulated_arm_processor() -> None:
    native_build.ctest(native_build.arm())
