"""What the doctor finds: packages, runtimes, native code, machine and caches."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from glass_export.cli.app import app
from glass_export.doctor import Finding, examine, machine, packages, runtimes
from glass_export.runtime.engines import ENGINES

ROOT = Path(__file__).parents[2]
METADATA = """\
Metadata-Version: 2.4
Name: glass-export
Version: 0.1.0
Provides-Extra: all
Provides-Extra: bench
Provides-Extra: export
Requires-Dist: numpy>=1.26
Requires-Dist: typer<0.30,>=0.26
Requires-Dist: matplotlib>=3.8; extra == 'all'
Requires-Dist: torch==2.13.0; extra == 'all'
Requires-Dist: matplotlib>=3.8; extra == 'bench'
Requires-Dist: torch==2.13.0; extra == 'export'
"""


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = (finding for finding in findings if finding.name == name)
    return found


def ask(monkeypatch: pytest.MonkeyPatch, **wanted: list[str]) -> list[Finding]:
    """What the doctor says of requirements by extra, ``core`` for those of all installations."""
    parsed = {
        "" if extra == "core" else extra: [Requirement(text) for text in texts]
        for extra, texts in wanted.items()
    }
    monkeypatch.setattr(packages, "requirements", lambda: parsed)
    return packages.examine()


def test_this_checkout_is_as_pyproject_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = packages.requirements()
    assert set(wanted) == {"", *project["optional-dependencies"]} - {"all", "dev"}
    assert [str(one) for one in wanted[""]] == [
        str(Requirement(text)) for text in project["dependencies"]
    ]
    findings = packages.examine()
    torch = named(findings, "torch")
    assert torch.state == "ok" and torch.value == f"{metadata.version('torch')} (wanted: ==2.13.0)"
    assert all(finding.state != "problem" for finding in findings)


def test_an_installation_tells_by_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "glass_export-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(METADATA)
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "site/glass_export/doctor/x.py"))
    monkeypatch.setattr(metadata, "distribution", lambda _: metadata.PathDistribution(folder))
    found = {extra: list(map(str, needed)) for extra, needed in packages.requirements().items()}
    assert found == {
        "": ["numpy>=1.26", "typer<0.30,>=0.26"],
        "bench": ['matplotlib>=3.8; extra == "bench"'],
        "export": ['torch==2.13.0; extra == "export"'],
    }


def test_a_missing_core_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    core = named(ask(monkeypatch, core=["numpy", "no-such-package>=1"]), "core")
    assert (core.state, core.fix) == ("problem", "pip install no-such-package")


def test_a_missing_package_of_an_extra_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = ask(monkeypatch, core=["numpy"], mine=["torch", "no-such-package>=1"])
    extra = named(findings, "extra mine")
    assert (extra.state, extra.fix) == ("note", "pip install 'glass-export[mine]'")
    assert extra.value == "missing: no-such-package"


@pytest.mark.parametrize(
    ("others", "state"), [([], "problem"), (["no-such-package"], "note")], ids=["in use", "not"]
)
def test_a_version_outside_the_window(
    monkeypatch: pytest.MonkeyPatch, others: list[str], state: str
) -> None:
    findings = ask(monkeypatch, core=["numpy>=1"], mine=["numpy<0.5", *others])
    numpy = named(findings, "numpy")
    assert numpy.state == state and numpy.fix == "pip install 'numpy<0.5'"
    assert numpy.value == f"{metadata.version('numpy')}, wanted by the extra mine: <0.5"


def test_a_runtime_opens_and_tells_the_instruction_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLASS_ISA", "portable")
    monkeypatch.setattr(runtimes.native, "built", lambda name: name == "onnxruntime")
    runtimes.native.library("onnxruntime")
    findings = list(runtimes.examine(full=False))
    version = metadata.version("onnxruntime")
    assert named(findings, "onnxruntime").value == f"{version}, opens"
    assert named(findings, "executorch").value.endswith("not opened (--full does)")
    isa = named(findings, "onnxruntime, instruction set")
    assert isa.value == "portable, GLASS_ISA is portable"
    assert named(findings, "onnxruntime, operators").value.startswith("built, ")


@pytest.mark.slow
def test_executorch_opens_too_when_asked() -> None:
    findings = list(runtimes.examine(full=True))
    assert named(findings, "executorch").value.endswith(", opens")


def test_a_runtime_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "onnx", ("glass_export.nowhere", "X", "onnxruntime"))
    broken = named(list(runtimes.examine(full=False)), "onnxruntime")
    assert broken.state == "problem" and "No module named 'glass_export.nowhere'" in broken.value


def test_no_runtime_at_all_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    findings = list(runtimes.examine(full=True))
    assert named(findings, "all").state == "problem"
    one = named(findings, "onnxruntime")
    assert (one.state, one.fix) == ("note", "pip install 'glass-export[onnxruntime]'")
    assert not any(finding.name.endswith("operators") for finding in findings)


def test_operators_that_cannot_be_built_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path))
    operators = named(list(runtimes.examine(full=False)), "executorch, operators")
    assert operators.state == "note" and operators.fix == "glass-export build-native executorch"
    monkeypatch.setenv("CXX", "no-such-compiler")
    findings = list(runtimes.examine(full=False))
    operators, compiler = named(findings, "executorch, operators"), named(findings, "C++ compiler")
    assert operators.state == "problem" and "cannot be" in operators.value
    assert compiler.state == "note" and "apt install g++" in compiler.fix
    monkeypatch.setenv("GLASS_EXPORT_NATIVE", str(tmp_path))
    operators = named(list(runtimes.examine(full=False)), "executorch, operators")
    assert operators.state == "problem" and "GLASS_EXPORT_NATIVE" in operators.fix


def test_caches_by_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (empty,) = machine.caches()
    assert empty.size == 0
    for name, size in (("own/models/x/a", 3), ("own/models/b", 4), ("own/priors/c", 5)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    blob = tmp_path / "hf/hub/blobs/d"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(5000))
    (tmp_path / "hf/hub/snapshot").symlink_to(blob)
    found = {finding.name: finding for finding in machine.caches()}
    assert set(found) == {"models", "priors", "Hugging Face hub"}
    assert (found["models"].size, found["priors"].size) == (7, 5)
    assert 5000 <= (found["Hugging Face hub"].size or 0) < 10_000, "a link is not counted twice"
    assert str(tmp_path / "own/models") in found["models"].value


def test_little_memory_and_disk_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (4 << 30, 1 << 30))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("U", (), {"free": 1 << 30}))
    findings = list(machine.examine())
    assert named(findings, "memory").state == named(findings, "disk").state == "note"
    assert "GLASS_EXPORT_CACHE" in named(findings, "disk").fix


def test_json_and_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(outcome.stdout)
    assert outcome.exit_code == 0 and report["ok"]
    names = {(finding["group"], finding["name"]) for finding in report["findings"]}
    assert {("machine", "memory"), ("packages", "numpy"), ("native", "CMake")} <= names

    wrong = Finding(group="native", name="x", value="broken", state="problem", fix="mend it")
    monkeypatch.setattr("glass_export.doctor.examine", lambda *, full: [wrong])
    outcome = CliRunner().invoke(app, ["doctor"])
    assert outcome.exit_code == 1
    assert "problem  x  broken" in outcome.stdout and "-> mend it" in outcome.stdout
    assert json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["ok"] is False


def test_every_problem_and_note_has_one_line_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    for finding in examine():
        assert "\n" not in finding.fix
        assert finding.fix or finding.state == "ok", finding


def test_it_runs_where_only_the_runtime_is_installed() -> None:
    program = (
        "import sys\n"
        "heavy = ('torch', 'transformers', 'onnx', 'onnxruntime', 'gguf', 'huggingface_hub')\n"
        "sys.modules.update(dict.fromkeys(heavy))\n"  # importing one fails
        "from glass_export.doctor import examine\n"
        "print(len(examine()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 10
