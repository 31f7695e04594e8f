"""Models that are already on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export.errors import SourceError
from glass_export.recipe import resolve
from glass_export.sources import FetchedModel, fetch


def get(path: Path) -> FetchedModel:
    return fetch(resolve(str(path)).model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_folder(checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint("llama")
    fetched = get(path)
    assert fetched.path == path
    assert fetched.info.kind == "local"
    assert fetched.info.reference == path.name, "no path of this machine goes into a manifest"


def test_hash_covers_every_weight_file(folder: Path) -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "one.safetensors").write_bytes(b"1")
    (folder / "two.safetensors").write_bytes(b"2")
    first = get(folder).info.sha256
    (folder / "two.safetensors").write_bytes(b"22")
    assert get(folder).info.sha256 != first


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_hash_covers_what_else_makes_the_model(folder: Path, name: str) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")
    first = get(folder).info.sha256
    (folder / name).write_text('{"rope_theta": 10}')
    assert get(folder).info.sha256 != first


def test_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    assert get(path).info.reference == "m.gguf"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no model.safetensors; give a folder with safetensors weights"),
        (
            {"pytorch_model.bin": "x"},
            r"only pickled weights \(pytorch_model.bin\), which can run code",
        ),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "m-1.safetensors"}}'},
            r"1 of 1 weight files are missing \(m-1.safetensors\)",
        ),
        ({"model.safetensors.index.json": "[]"}, "not a safetensors index"),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "../m.safetensors"}}'},
            "expected safetensors files of the same folder",
        ),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "pytorch_model.bin"}}'},
            "expected safetensors files of the same folder",
        ),
    ],
)
def test_incomplete_folder(folder: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        get(folder)


def test_folder_without_config_points_to_a_gguf_in_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    with pytest.raises(SourceError, match=r"no config\.json.*give the file itself: .*m\.gguf"):
        get(tmp_path)
