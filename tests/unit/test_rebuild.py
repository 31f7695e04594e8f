"""``verify --rebuild``: the same artifact again, and what is said when it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command import Exported, glass

from glass_export.artifact import Artifact, ArtifactWriter, write_profile
from glass_export.errors import ArtifactError, SourceError, VerificationError
from glass_export.manifest import Manifest
from glass_export.rebuild import rebuild, require_identical
from glass_export.selection import Profile

Checkpoint = Callable[..., Path]


@pytest.fixture
def artifact(exported: Exported, tmp_path: Path) -> Path:
    """A copy of a tiny artifact, for tests that change it."""
    return Path(shutil.copytree(exported("llama"), tmp_path / "llama"))


def sealed_again(path: Path, change: Callable[[Path, Manifest], Manifest]) -> None:
    """Change an artifact so that all its hashes are right."""
    old = Artifact.open(path).manifest
    with ArtifactWriter(path) as writer:
        shutil.copytree(path, writer.path, dirs_exist_ok=True)
        writer.commit(change(writer.path, old))


def test_the_same_again(artifact: Path, checkpoint: Checkpoint) -> None:
    write_profile(artifact, "mine", Profile(density=0.4))
    found = rebuild(artifact, model=str(checkpoint("llama")))
    assert found.identical and found.tuned == ("mine",)
    names = {file.path for file in found.files}
    assert {"weights.bin", "prior.safetensors", "reference.safetensors", "decode.onnx"} <= names
    require_identical(artifact, found)


def test_it_is_found_by_its_name_below_the_current_directory(
    artifact: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Artifact.open(artifact).manifest.recipe["model"]["sources"][0]["path"]
    assert recorded.startswith("llama")  # a name alone: no path of this machine
    here = artifact.parent / "here"
    here.mkdir()
    (here / recorded).symlink_to(checkpoint("llama"))
    monkeypatch.chdir(here)
    assert rebuild(artifact).identical


def test_another_file_and_another_statement_are_named(
    artifact: Path, checkpoint: Checkpoint
) -> None:
    def change(folder: Path, manifest: Manifest) -> Manifest:
        weights = bytearray((folder / "weights.bin").read_bytes())
        weights[100] ^= 1
        (folder / "weights.bin").write_bytes(weights)
        (folder / "notes.txt").write_text("mine")
        return replace(manifest, model=replace(manifest.model, bos_token_id=5))

    sealed_again(artifact, change)
    found = rebuild(artifact, model=str(checkpoint("llama")))
    assert [file.path for file in found.files if not file.same] == ["notes.txt", "weights.bin"]
    with pytest.raises(VerificationError) as told:
        require_identical(artifact, found)
    for line in (
        "notes.txt: not in the rebuilt one",
        "weights.bin: SHA-256",
        "glass.json: model.bos_token_id: 5, rebuilt 0",
    ):
        assert line in str(told.value)


def test_other_tools_are_refused(artifact: Path, checkpoint: Checkpoint) -> None:
    sealed_again(
        artifact, lambda _, m: replace(m, tools={**m.tools, "torch": "1.0", "gone-away": "2.0"})
    )
    with pytest.raises(
        VerificationError, match=r"made with torch 1\.0 \(installed: 2.*gone-away 2.*none.*install"
    ):
        rebuild(artifact, model=str(checkpoint("llama")))


def test_no_model_and_another_model_are_refused(
    artifact: Path, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"cannot be rebuilt without its model, local llama"):
        rebuild(artifact)
    with pytest.raises(SourceError, match="is not the model that .* expected"):
        rebuild(artifact, model=str(checkpoint("qwen2")))


def test_a_damaged_artifact_is_refused(artifact: Path, checkpoint: Checkpoint) -> None:
    (artifact / "decode.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"decode\.onnx"):
        rebuild(artifact, model=str(checkpoint("llama")))


@pytest.mark.slow
def test_command(exported: Exported, checkpoint: Checkpoint) -> None:
    path, model = exported("llama", "executorch"), checkpoint("llama")
    result = json.loads(glass("verify", path, "--rebuild", "--model", model, "--json").stdout)
    assert result["identical"] and all(file["same"] for file in result["files"])
    assert "model.pte" in {file["path"] for file in result["files"]}
    other = checkpoint("qwen2")
    outcome = glass("verify", path, "--rebuild", "--model", other, code=1)
    assert "is not the model that" in outcome.stderr and outcome.stdout == ""
    assert "belong to --rebuild" in glass("verify", path, "--fresh", code=2).stderr
