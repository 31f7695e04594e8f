"""Profiles: the default ones, what a manifest accepts, and how one is added to an artifact."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import filelock
import pytest
import tiny_artifact

from glass_export.artifact import CHECKSUM_NAME, Artifact, write_profile
from glass_export.errors import ArtifactError, RecipeError
from glass_export.manifest import Manifest
from glass_export.selection import Profile, SelectionRecipe, default_profiles

TUNED = Profile(density=0.6, refresh=32, kl=0.12, speedup=1.3, device="eine Platine ä")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_artifact.write(tmp_path / "tiny")


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.parametrize(
    ("density", "most"), [(0.1, 0.55), (0.3, 0.65), (0.5, 0.75), (0.6, 0.75), (0.9, 0.9), (1, 1)]
)
def test_default_profiles_keep_more_step_by_step(density: float, most: float) -> None:
    found = default_profiles(SelectionRecipe(density=density, refresh=8, dense_start=4))
    assert found == {
        "fast": Profile(density=density, refresh=0, dense_start=0),
        "balanced": Profile(density=density, refresh=64, dense_start=16),
        "faithful": Profile(density=most, refresh=32, dense_start=16),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"density": 0.0}, "profile.density: got 0.0, expected above 0"),
        ({"density": 1.5}, "profile.density: got 1.5"),
        ({"density": 0.5, "refresh": -1}, "profile.refresh: got -1"),
        ({"density": 0.5, "dense_start": -2}, "profile.dense_start: got -2"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Profile(**fields)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"fast": 0.5}, "profiles: got 0.5, expected a table for Profile"),
        ({"fast": {}}, "profiles.density: missing"),
        ({"fast": {"density": 2.0}}, "profile.density: got 2.0"),
        ({"fast": {"density": 0.5, "refres": 8}}, "unknown key 'refres'; did you mean 'refresh'?"),
        ([], "profiles"),
    ],
)
def test_a_manifest_says_what_is_wrong_with_a_profile(value: Any, message: str) -> None:
    data = json.loads(tiny_artifact.manifest().to_json())
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(json.dumps({**data, "profiles": value}))
    assert str(caught.value).startswith("glass.json: ") and message in str(caught.value)


def test_a_manifest_of_before_there_were_profiles_has_none() -> None:
    data = json.loads(tiny_artifact.manifest().to_json())
    del data["profiles"]
    assert Manifest.from_json(json.dumps(data)).profiles == {}


def test_adding_a_profile_changes_nothing_else(artifact: Path) -> None:
    before, listing = contents(artifact), json.loads((artifact / "glass.json").read_text())
    opened = write_profile(artifact, "tuned", TUNED)
    assert opened == Artifact.open(artifact, check="full")
    assert opened.manifest.profiles == {**default_profiles(SelectionRecipe()), "tuned": TUNED}
    after = contents(artifact)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"glass.json", CHECKSUM_NAME}
    assert after["glass.json"].decode() == opened.manifest.to_json()
    rest = {**json.loads(after["glass.json"]), "profiles": listing["profiles"]}
    assert rest == listing and after[CHECKSUM_NAME].count(b"\n") == 1


def test_a_profile_of_the_same_name_is_replaced_in_its_place(artifact: Path) -> None:
    names = [*write_profile(artifact, "balanced", TUNED).manifest.profiles]
    assert names == ["fast", "balanced", "faithful"]
    assert Artifact.open(artifact).manifest.profiles["balanced"] == TUNED


def test_keys_that_an_older_program_did_not_write_stay_away(artifact: Path) -> None:
    data = json.loads((artifact / "glass.json").read_text())
    del data["profiles"], data["search"]
    tiny = json.dumps(data, indent=1) + "\n"
    (artifact / "glass.json").write_text(tiny)
    _seal(artifact)
    write_profile(artifact, "tuned", TUNED)
    text = (artifact / "glass.json").read_text(encoding="utf-8")
    assert text.startswith(tiny.removesuffix("\n}\n")) and '"search"' not in text


def _seal(root: Path) -> None:
    """Make the checksum fit the manifest."""
    digest = hashlib.sha256((root / "glass.json").read_bytes()).hexdigest()
    (root / CHECKSUM_NAME).write_text(f"{digest}  glass.json\n")


@pytest.mark.parametrize("renames", range(3))
def test_a_kill_between_any_two_steps_leaves_the_old_or_the_new(
    artifact: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is seen on the disk are the renames; the kill comes after so many of them."""
    original, done = Path.replace, [0]

    def replace(self: Path, target: Path) -> Path:
        if done[0] == renames:
            raise KeyboardInterrupt
        done[0] += 1
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a kill tidies up nothing
        with pytest.raises(KeyboardInterrupt):
            write_profile(artifact, "tuned", TUNED)
    assert (artifact / ".glass.json.partial").exists()
    found = Artifact.open(artifact, check="full").manifest.profiles
    assert ("tuned" in found) == (renames > 1)
    write_profile(artifact, "again", TUNED)
    assert not (artifact / ".glass.json.partial").exists()
    assert (artifact / CHECKSUM_NAME).read_text().count("\n") == 1


def test_an_export_replaces_what_a_killed_tuning_left(artifact: Path) -> None:
    (artifact / ".glass.json.partial").write_text("{")
    tiny_artifact.write(artifact)
    assert not (artifact / ".glass.json.partial").exists()


def test_two_checksums_of_other_manifests_are_refused(artifact: Path) -> None:
    wrong = f"{'0' * 64}  glass.json\n{'1' * 64}  glass.json\n"
    (artifact / CHECKSUM_NAME).write_text(wrong)
    with pytest.raises(ArtifactError, match="altered"):
        Artifact.open(artifact)


def test_a_damaged_artifact_gets_no_profile(artifact: Path) -> None:
    content = (artifact / "weights.bin").read_bytes()
    (artifact / "weights.bin").write_bytes(content[::-1])
    before = contents(artifact)
    with pytest.raises(ArtifactError, match="weights.bin: altered"):
        write_profile(artifact, "tuned", TUNED)
    assert contents(artifact) == before


def test_an_artifact_in_use_and_one_that_is_not_there(artifact: Path, tmp_path: Path) -> None:
    before = contents(artifact)
    with (
        filelock.FileLock(tmp_path / ".tiny.lock"),
        pytest.raises(ArtifactError, match="in use by an export"),
    ):
        write_profile(artifact, "tuned", TUNED)
    assert contents(artifact) == before
    with pytest.raises(ArtifactError, match="no such directory"):
        write_profile(tmp_path / "nothing" / "here", "tuned", TUNED)
    assert not (tmp_path / "nothing").exists()


def test_a_disk_that_cannot_be_written(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(artifact)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("glass_export.artifact.rewrite.sync", full)
        with pytest.raises(ArtifactError, match="cannot be written .*No space left"):
            write_profile(artifact, "tuned", TUNED)
    assert contents(artifact) == before
