"""Every script in tests/attacks makes a hostile artifact: both readers name the same fault, at once
and within bounds.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import golden_artifact
import hostile
import pytest

from glass_export import limits
from glass_export.errors import ArtifactCode

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "glass_export" / "csrc" / "driver"
SPECIFICATION = ROOT / "artifacts" / "README.md"
SECONDS = 1.0
MEMORY = 512 << 20

Read = Callable[[Path], tuple[str, float, str]]
"""Code, seconds of a processor, and message."""


@pytest.fixture(scope="module")
def python_reader() -> Iterator[Read]:
    program = ROOT / "tests" / "artifact_reader.py"
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def read(artifact: Path) -> tuple[str, float, str]:
            asked.write(f"{artifact}\n")
            asked.flush()
            code, took, message = answered.readline().split(" ", 2)
            return code, float(took), message.strip()

        yield read
        asked.close()


@pytest.fixture(scope="module")
def cpp_reader(native_tests: Path) -> Read:
    program = native_tests / "csrc" / "run" / "read_artifact"

    def read(artifact: Path) -> tuple[str, float, str]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [program, artifact], capture_output=True, text=True, timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        code, _, message = done.stdout.strip().partition(" ")
        return code or f"died {done.returncode} {done.stderr}", took, message

    return read


@pytest.fixture(params=["python", "cpp"])
def reader(request: pytest.FixtureRequest) -> Read:
    """Each reader in turn."""
    found: Read = request.getfixturevalue(f"{request.param}_reader")
    return found


@pytest.mark.parametrize("script", hostile.SCRIPTS, ids=lambda script: script.stem)
def test_attack(reader: Read, script: Path, tmp_path: Path) -> None:
    attack: ModuleType = hostile.load(script)
    code, took, message = reader(hostile.build(attack, tmp_path))
    assert code == attack.CODE, message
    assert took < SECONDS, message


@pytest.mark.parametrize("target", golden_artifact.TARGETS)
def test_what_the_attacks_are_made_of_is_sound(reader: Read, target: str) -> None:
    assert reader(golden_artifact.FOLDER / target)[0] == "ok"


def test_every_code_is_attacked() -> None:
    attacked = {hostile.load(script).CODE for script in hostile.SCRIPTS}
    assert attacked == {str(code) for code in ArtifactCode} - {"signature", "unsupported"}


def test_codes_of_python_cpp_and_the_specification_are_the_same_list() -> None:
    names = re.search(
        r"kArtifactCodeNames\[\] = \{(.*?)\};", read(DRIVER / "artifact_code.h"), re.S
    )
    assert names is not None
    cpp = re.findall(r'"([a-z-]+)"', names[1])
    table = re.findall(r"^\| `([a-z-]+)` \|", section("Error codes"), re.M)
    assert cpp == table == [str(code) for code in ArtifactCode]


def test_limits_of_python_cpp_and_the_specification_are_the_same() -> None:
    constants = re.findall(r"constexpr \w+ kMost(\w+) = (.*?);", read(DRIVER / "limits.h"))
    cpp = {snake(name): number(value) for name, value in constants}
    python = {name: value for name, value in vars(limits).items() if name.isupper()}
    rows = re.findall(r"^\| .* \| ([\d,]+) \| `([A-Z_]+)` \|", section("Limits"), re.M)
    table = {name: int(value.replace(",", "")) for value, name in rows}
    assert cpp == python == table


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(title: str) -> str:
    return read(SPECIFICATION).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def number(value: str) -> int:
    """Of a constant such as ``size_t{16} << 20``."""
    known = {"INT32_MAX": 2**31 - 1}
    plain = re.sub(r"\w+\{(\d+)\}", r"\1", value)
    left, _, shift = plain.partition(" << ")
    return known[left] if left in known else int(left) << int(shift or 0)
