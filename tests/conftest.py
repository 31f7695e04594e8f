"""Options shared by all tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_jvm
import native_build
import pytest

from glass_export import native

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-goldens``."""
    parser.addoption(
        "--update-goldens", action="store_true", help="write the golden files anew, then compare"
    )


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of one family together, and the others of one file, for what they share.

    Under ``--dist loadgroup`` a group runs in one process, so the real artifacts are exported once.
    """
    for item in items:
        if "smollm2" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("smollm2"))
            continue
        call = getattr(item, "callspec", None)  # of parametrised tests
        family = call.params.get("family") if call else None
        item.add_marker(pytest.mark.xdist_group(str(family or item.path.stem)))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], Any]:
    """``golden(name, actual)``: what tests/golden/<name> holds, after writing it when asked to."""

    def read(name: str, actual: Any) -> Any:
        path = GOLDEN / name
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(actual, indent=1) + "\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="session")
def native_core() -> Path:
    """The native core's C interface, built on first use."""
    return native.library("core")


@pytest.fixture(scope="session")
def native_tests() -> Path:
    """Build folder of all native code and its tests, brought up to date on first use."""
    return native_build.everything()


@pytest.fixture(scope="session")
def glass_run(native_tests: Path) -> Path:
    """The program glass_run, with its tokenizer."""
    return native_tests / "csrc" / "run" / "glass_run"


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Java library and its test program, compiled."""
    classes = tmp_path_factory.mktemp("classes")
    host_jvm.compile_java(sorted((host_jvm.LIBRARY / "src").rglob("*.java")), classes)
    return classes


@pytest.fixture(scope="session")
def jni_test(native_tests: Path, java_classes: Path) -> Callable[..., str]:
    """``jni_test(command, *arguments)``: what the Java library's test program prints."""

    def run(*arguments: str | Path) -> str:
        libraries = native_tests / "jni"
        return host_jvm.run_java(
            "ai.glass.JniTest", *arguments, classpath=[java_classes], libraries=libraries
        )

    return run
