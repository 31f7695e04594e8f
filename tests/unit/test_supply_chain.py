"""What the project is made of: the lock file, the bill of materials, the pinned native sources."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from glass_export import libsodium, llama_cpp, tokenizers_cpp
from glass_export.source_archive import SourceArchive

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements" / "lock.txt").read_text()
HASHED = re.compile(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)
LOCKED = {
    canonicalize_name(name): (Version(version), re.findall(r"sha256:(\w+)", hashes))
    for name, version, hashes in HASHED.findall(LOCK)
}
WANTED = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "requirements" / "sbom.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_every_dependency_is_locked_in_its_window(wanted: Requirement) -> None:
    if wanted.name == "glass-export":
        return
    version, hashes = LOCKED[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(version, prereleases=True) and hashes


def test_every_line_of_the_lock_is_pinned_and_hashed() -> None:
    assert HASHED.sub("", LOCK).replace("\n", "").startswith("#")
    assert "==" not in HASHED.sub("", LOCK)
    assert len(LOCKED) > 100


def test_torch_is_the_build_without_cuda_and_nothing_of_cuda_is_locked() -> None:
    version, hashes = LOCKED["torch"]
    assert version.local == "cpu" and len(hashes) >= 1
    assert not [name for name in LOCKED if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_exceptions_from_the_audit_have_a_reason() -> None:
    lines = (ROOT / "requirements" / "audit-ignore.txt").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[A-Z][A-Za-z0-9-]+ \S.{20,}", line), line


def test_tools_are_pinned() -> None:
    lines = (ROOT / "requirements" / "tools.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins and all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in pins)


def test_the_bill_has_every_native_source(sbom: ModuleType) -> None:
    modules = [
        path.stem
        for path in (ROOT / "glass_export").glob("*.py")
        if "SourceArchive(" in path.read_text()
    ]
    archives: set[SourceArchive] = {
        importlib.import_module(f"glass_export.{name}").ARCHIVE for name in modules
    }
    assert {source.archive for source in sbom.NATIVE} == archives and len(archives) == 3


def test_versions_of_native_sources_are_those_of_their_files(sbom: ModuleType) -> None:
    stated = {source.name: source.version for source in sbom.NATIVE}
    pcre2 = (tokenizers_cpp.fetch() / "third-party/pcre2/src/pcre2.h.generic").read_text()
    parts = re.findall(r"define PCRE2_M(?:AJOR|INOR)\s+(\d+)", pcre2)
    assert stated["pcre2"] == ".".join(parts)
    json_header = (llama_cpp.fetch() / "vendor/nlohmann/json.hpp").read_text()
    parts = re.findall(r"define NLOHMANN_JSON_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", json_header)
    assert stated["nlohmann-json"] == ".".join(parts)
    assert "Frank Denis" in (libsodium.fetch().parents[1] / "LICENSE").read_text()


def test_the_bill_of_materials_is_whole(sbom: ModuleType) -> None:
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [{"type": "library", "bom-ref": "one", "name": "one", "version": "1"}],
        "dependencies": [{"ref": "root-component"}, {"ref": "one"}],
        "metadata": {"component": {"type": "library", "bom-ref": "root-component", "name": "x"}},
    }
    made = sbom.extended(bom)
    names = [part["name"] for part in made["components"]]
    assert names == ["one", "pcre2", "llama.cpp", "nlohmann-json", "libsodium"]
    refs = [entry["ref"] for entry in made["dependencies"]]
    assert len(refs) == len(set(refs)) == 1 + len(names)
    assert len(made["dependencies"][0]["dependsOn"]) == len(names)
    hashes = [part["externalReferences"][0]["hashes"] for part in made["components"][1:]]
    assert json.dumps(hashes).count(libsodium.ARCHIVE.sha256) == 1
