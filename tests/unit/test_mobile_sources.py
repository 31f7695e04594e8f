"""The apps' sources that no compiler for them is at hand for: syntax, and what must agree."""

from __future__ import annotations

import json
import plistlib
import re
import subprocess
import sysconfig
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

MOBILE = Path(__file__).parents[2] / "mobile_demo"
ANDROID, IOS = MOBILE / "android", MOBILE / "ios"
SCRIPTS = sorted(path for path in MOBILE.rglob("*.sh"))
NO_GRAMMARS = "needs the parsers of the extra dev: pip install -e '.[dev]'"


def _relative(path: Path) -> str:
    return path.relative_to(MOBILE).as_posix()


def _sources(*suffixes: str) -> list[Path]:
    return sorted(path for suffix in suffixes for path in MOBILE.rglob(f"*{suffix}"))


@pytest.mark.parametrize("path", _sources(".kt", ".kts", ".swift"), ids=_relative)
def test_kotlin_and_swift_are_well_formed(path: Path) -> None:
    tree_sitter = pytest.importorskip("tree_sitter", reason=NO_GRAMMARS)
    kind = "swift" if path.suffix == ".swift" else "kotlin"
    grammar = pytest.importorskip(f"tree_sitter_{kind}", reason=NO_GRAMMARS)
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    assert list(_mistakes(parser.parse(path.read_bytes()).root_node)) == []


def _mistakes(node: object) -> Iterator[tuple[int, str]]:
    """Lines, from 1, and texts of what the grammar does not know."""
    if node.type == "ERROR" or node.is_missing:  # type: ignore[attr-defined]
        yield node.start_point[0] + 1, node.text.decode()  # type: ignore[attr-defined]
        return
    for child in node.children:  # type: ignore[attr-defined]
        yield from _mistakes(child)


@pytest.mark.parametrize("path", _sources(".xml", ".svg"), ids=_relative)
def test_xml_is_well_formed(path: Path) -> None:
    ElementTree.parse(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=_relative)
def test_scripts(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    checker = Path(sysconfig.get_path("scripts")) / "shellcheck"
    if not checker.is_file():
        pytest.skip(NO_GRAMMARS)
    outcome = subprocess.run([checker, "-x", path], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout


def test_push_exports_pushes_and_measures() -> None:
    """What it would run, with the names that the app has."""
    command = [MOBILE / "push.sh", "--dry-run", "--benchmark", "--apk", "app.apk", "--tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0].rpartition("/")[2] for line in lines] == ["glass-export"] + ["adb"] * 6
    assert "--target executorch --dtype int4" in lines[0] and lines[1] == "adb install -r app.apk "
    assert "/Android/data/ai.glass.demo/files/artifacts/" in lines[4]
    benchmark = (ANDROID / "app/src/main/kotlin/ai/glass/demo/BenchmarkActivity.kt").read_text()
    extras = re.findall(r"--e[is] (\w+)", lines[-1])
    assert set(extras) == {"artifact", "output", "densities", "tokens", "repeats", "threads"}
    assert all(f'"{extra}"' in benchmark for extra in extras)


def test_push_refuses_what_it_does_not_know() -> None:
    done = subprocess.run([MOBILE / "push.sh", "--fast"], capture_output=True, text=True)
    assert done.returncode == 1 and "--fast: no such option; see --help" in done.stderr


def test_gradle_uses_what_the_catalog_has() -> None:
    catalog = tomllib.loads((ANDROID / "gradle/libs.versions.toml").read_text())
    declared = {name.replace("-", ".") for name in catalog["libraries"]}
    declared |= {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    text = "".join(path.read_text() for path in ANDROID.rglob("build.gradle.kts"))
    assert set(re.findall(r"\blibs\.([\w.]+)", text)) == declared
    for entry in (*catalog["libraries"].values(), *catalog["plugins"].values()):
        assert "version" not in entry or entry["version"]["ref"] in catalog["versions"]


def test_the_manifest_names_classes_that_exist() -> None:
    name = "{http://schemas.android.com/apk/res/android}name"
    root = ElementTree.parse(ANDROID / "app/src/main/AndroidManifest.xml").getroot()
    declared = {
        str(element.get(name)) for tag in ("application", "activity") for element in root.iter(tag)
    }
    folder = ANDROID / "app/src/main/kotlin/ai/glass/demo"
    assert declared == {".DemoApplication", ".MainActivity", ".BenchmarkActivity"}
    assert all((folder / f"{each[1:]}.kt").is_file() for each in declared)
    resources = ANDROID / "app/src/main/res"
    assert (resources / "drawable/icon.xml").is_file()
    assert (resources / "xml/data_extraction_rules.xml").is_file()


def test_what_native_code_names_is_kept_by_the_shrinker() -> None:
    code = (ANDROID / "glass/src/main/cpp/glass_jni.cpp").read_text()
    rules = (ANDROID / "glass/consumer-rules.pro").read_text()
    named = set(re.findall(r'"L?(ai/glass/\w+)', code))
    kept = {name.replace(".", "/") for name in re.findall(r"ai\.glass\.\w+", rules)}
    assert named <= kept


def test_presets_and_scripts_agree() -> None:
    presets = json.loads((MOBILE / "core/CMakePresets.json").read_text())["configurePresets"]
    visible = {preset["name"] for preset in presets if not preset.get("hidden")}
    scripts = "".join(path.read_text() for path in SCRIPTS)
    assert visible == {name for name in visible if re.search(rf"\b{name}\b", scripts)}
    assert visible == {"android-arm64", "ios-arm64", "ios-simulator"}


def test_the_project_asks_for_more_memory() -> None:
    entitlement = "com.apple.developer.kernel.increased-memory-limit"
    project = yaml.safe_load((IOS / "project.yml").read_text())["targets"]["GlassDemo"]
    path = IOS / project["entitlements"]["path"]
    assert plistlib.loads(path.read_bytes()) == project["entitlements"]["properties"]
    assert project["entitlements"]["properties"] == {entitlement: True}
    assert all((IOS / each["path"]).exists() or each.get("optional") for each in project["sources"])


def test_both_apps_have_the_same_screens() -> None:
    kotlin = (ANDROID / "app/src/main/kotlin/ai/glass/demo/ui/DemoScreens.kt").read_text()
    swift = (IOS / "App/GlassApp.swift").read_text()
    titles = re.findall(r'^    [A-Z]+\("(.+?)", ', kotlin, re.MULTILINE)
    assert titles == re.findall(r'Label\("(.+?)", systemImage', swift)
    assert titles == ["Models", "Chat", "A/B", "Settings", "Log"]
