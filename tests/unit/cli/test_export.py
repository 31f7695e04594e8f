"""``glass-export --model M --target T``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_artifact
from command import Exported, glass
from typer.testing import CliRunner

from glass_export import pipeline
from glass_export.cli.app import app
from glass_export.manifest import Manifest
from glass_export.recipe import Recipe
from glass_export.targets import known_targets


def test_unknown_model_suggests_the_nearest(tmp_path: Path) -> None:
    outcome = glass("--model", "smolm2", cwd=tmp_path, code=2)
    assert "'smolm2': not a recipe (did you mean 'smollm2'?)" in outcome.stderr
    assert outcome.stdout == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["nothing.gguf", "nothing.toml", "./nothing"])
def test_model_path_that_does_not_exist(tmp_path: Path, model: str) -> None:
    assert model in glass("--model", model, cwd=tmp_path, code=2).stderr


def test_unknown_target_lists_the_known(tmp_path: Path) -> None:
    for args in (["--target", "tpu"], ["--set", "target.name=tpu"]):
        outcome = glass("--model", "smollm2", *args, cwd=tmp_path, code=2)
        assert "tpu" in outcome.stderr and "does not exist" in outcome.stderr
        assert all(name in outcome.stderr for name in known_targets())
    assert "onnx" in known_targets()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("calibration.token=1", "did you mean 'tokens'?"),
        ("calibration.tokens=many", "expected int"),
        ("calibration.tokens=0", "expected at least 1"),
        ("selection.density=1.5", "at most 1"),
        ("nonsense", "expected section.key=value"),
        ("model.name.x=1", "not a section"),
    ],
)
def test_bad_override(tmp_path: Path, override: str, message: str) -> None:
    outcome = glass("--model", "smollm2", "--set", override, cwd=tmp_path, code=2)
    assert message in outcome.stderr and "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["nonsense"],
        ["--target", "onnx"],
        ["--model", "smollm2", "inspect", "x"],
        ["--json", "inspect", "x"],
        ["inspect"],
        ["run", "x", "y", "--density", "much"],
        ["run", "x", "y", "--fusion", "cold"],
    ],
    ids=" ".join,
)
def test_usage_errors(args: list[str]) -> None:
    outcome = glass(*args, code=2)
    assert outcome.stderr and outcome.stdout == ""


def test_export_refuses_a_foreign_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    outcome = glass("--model", model, "--output", tmp_path, code=1)
    assert "not empty and not an artifact" in outcome.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_export_reports_the_artifact(checkpoint: Exported, tmp_path: Path) -> None:
    small = (
        "export.max_length=96",
        "calibration.tokens=256",
        "calibration.sequence_length=32",
        "selection.mode=fixed",
    )
    sets = [word for value in small for word in ("--set", value)]
    args = ["--model", checkpoint("llama"), *sets, "--no-verify", "--json"]
    result = json.loads(glass(*args, cwd=tmp_path).stdout)
    folder = tmp_path / result["artifact"]
    assert folder.parent == tmp_path / "artifacts" and folder.name.endswith("-onnx")
    assert result["verification"] is None and result["target"] == "onnx"
    glass("inspect", folder)


@pytest.mark.parametrize(("dtype", "name"), [("int4", "-int4"), ("int8", "-int8"), ("fp32", "")])
def test_dtype_goes_to_the_recipe_and_the_name(
    dtype: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[tuple[Recipe, Path]] = []

    def export(recipe: Recipe, folder: Path, *, streamed: bool | None, key: None) -> Manifest:
        assert streamed is None and key is None
        exports.append((recipe, folder))
        return tiny_artifact.manifest()

    monkeypatch.setattr(pipeline, "export", export)
    args = ["--model", "smollm2", "--target", "executorch", "--dtype", dtype]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    ((recipe, folder),) = exports
    assert (recipe.target.name, recipe.target.dtype) == ("executorch", dtype)
    assert folder == Path(f"artifacts/smollm2-executorch{name}")


def test_unknown_dtype_lists_the_known(tmp_path: Path) -> None:
    outcome = glass("--model", "smollm2", "--dtype", "fp16", cwd=tmp_path, code=2)
    assert "got 'fp16', expected one of 'fp32', 'int8', 'int4'" in outcome.stderr
    assert list(tmp_path.iterdir()) == []
