"""The native core in each instruction set: of this processor, or emulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import native_build
import pytest
from native_calls import ISAS, NativeCore
from remote_calls import RemoteCore

_ARM = [isa for isa in ISAS if isa.startswith("neon")]
_EVERY = [pytest.param(isa, marks=pytest.mark.slow) if isa in _ARM else isa for isa in ISAS]


@pytest.fixture(scope="session")
def emulated_core() -> Iterator[Callable[[], RemoteCore]]:
    """``emulated_core()``: a build for Arm in an emulator, one process for all tests."""

    @cache
    def start() -> RemoteCore:
        server = native_build.arm() / "csrc" / "tests" / "core_server"
        return RemoteCore([*native_build.emulator(), str(server)])

    yield start
    if start.cache_info().currsize:
        start().close()


@pytest.fixture(params=_EVERY)
def core(
    request: pytest.FixtureRequest,
    native_core: Path,
    emulated_core: Callable[[], RemoteCore],
) -> Iterator[NativeCore]:
    """The core with one instruction set in use."""
    library, isa = NativeCore(native_core), request.param
    if isa in _ARM and isa not in library.available_isas() and native_build.can_emulate_arm():
        library = emulated_core()
    if isa not in library.available_isas():
        missing = f"{isa}: not in this build, or not on this processor"
        pytest.skip(f"{missing}; {native_build.NO_EMULATOR}" if isa in _ARM else missing)
    before = library.active_isa()
    library.set_isa(isa)
    assert library.active_isa() == isa
    yield library
    library.set_isa(before)
