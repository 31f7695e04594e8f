"""``build-native``."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import glass


def test_build_native_prints_where_the_library_is() -> None:
    path = Path(glass("build-native").stdout.removesuffix("\n"))
    assert path.is_file() and path.stem == "libglass_executorch"


def test_build_native_finds_no_library_in_the_chosen_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_NATIVE", str(tmp_path))
    assert "GLASS_EXPORT_NATIVE must name the folder" in glass("build-native", code=1).stderr


def test_build_native_without_a_compiler_tells_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    outcome = glass("build-native", code=1)
    assert "no C++ compiler: looked for no-such-compiler" in outcome.stderr
    assert "apt install g++" in outcome.stderr and outcome.stdout == ""
