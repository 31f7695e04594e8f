"""Recipes: the ones that come with the package, ``--model``, ``--set`` and bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from glass_export.errors import RecipeError
from glass_export.recipe import load, recipe_names, resolve

MODEL = '[model]\nname = "m"\n[[model.sources]]\nkind = "hub"\nrepo = "a/b"\n'
WHEELS = MODEL + '[[model.sources]]\nkind = "wheels"\n'


def test_the_three_models_have_recipes() -> None:
    assert {"smollm2", "qwen2", "gemma3"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_of_the_package_ask_the_hub_first_and_need_no_hub(name: str) -> None:
    recipe = resolve(name)
    assert recipe.model.name == name
    assert [source.kind for source in recipe.model.sources] == ["hub", "wheels"]
    wheels = recipe.model.sources[1]
    assert all("==" in part.package for part in wheels.parts), "wheels have to be pinned"
    assert wheels.size


def test_digest_depends_on_every_value_and_on_nothing_else() -> None:
    digest = resolve("smollm2").digest()
    assert resolve("smollm2").digest() == digest
    assert resolve("smollm2", ["calibration.seed=1"]).digest() != digest
    assert resolve("smollm2", ["calibration.seed=0"]).digest() == digest


def test_model_may_be_a_hub_id_with_revision() -> None:
    (source,) = resolve("Qwen/Qwen2.5-Coder-0.5B-Instruct@v1").model.sources
    assert (source.kind, source.repo) == ("hub", "Qwen/Qwen2.5-Coder-0.5B-Instruct")
    assert source.revision == "v1"
    assert source.label == "hub Qwen/Qwen2.5-Coder-0.5B-Instruct"


def test_model_may_be_a_folder_or_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.touch()
    for path, name in ((tmp_path, tmp_path.name), (file, "tiny")):
        recipe = resolve(str(path))
        assert recipe.model.name == name
        assert recipe.model.sources[0].path == str(path)


def test_model_may_be_a_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MODEL + "[export]\nmax_length = 128\n")
    assert load(path).export.max_length == 128


def test_set_takes_toml_values_and_bare_words() -> None:
    recipe = resolve(
        "smollm2", ["selection.local=squared", "selection.tau=64", "verify.enabled = false"]
    )
    assert recipe.selection.local == "squared"
    assert recipe.selection.tau == 64.0
    assert not recipe.verify.enabled


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smollm", "did you mean 'smollm2'?"),
        ("", "not a recipe"),
        ("nowhere/", "not a hub id"),
        ("missing.gguf", "no such file; give a .gguf file that exists"),
        ("missing.toml", "no such file; give a readable .toml file"),
    ],
)
def test_unknown_model(model: str, message: str) -> None:
    with pytest.raises(RecipeError, match="model|recipe") as caught:
        resolve(model)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("export.max_length", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("export.max_lenght=5", "did you mean 'max_length'?"),
        ("exports.max_length=5", "did you mean 'export'?"),
        ("export.max_length=many", "export.max_length: got 'many', expected int"),
        ("export.max_length=1", "export.max_length: got 1, expected at least 16"),
        ("export=3", "export: got 3, expected a table"),
        ("model.name.x=3", "'name' is not a section"),
        ("selection.density=0", "selection.density: got 0.0, expected above 0 and at most 1"),
        ("selection.density=1.5", "selection.density: got 1.5"),
        ("selection.density=nan", "selection.density: got nan"),
        ("selection.lam=2", "selection.lam: got 2.0, expected 0 to 1"),
        ("selection.tau=inf", "selection.tau: got inf"),
        ("selection.refresh=-1", "selection.refresh: got -1, expected a whole number"),
        ("selection.dense_start=-1", "selection.dense_start: got -1, expected at least 0"),
        ("selection.refresh=often", "selection.refresh: got 'often', expected a whole number"),
        ("selection.refresh=1.5", "selection.refresh: got 1.5, expected an int or a string"),
        ("selection.fusion=bordo", "expected one of 'borda'"),
        ("calibration.temperature=0", "calibration.temperature: got 0.0"),
        ("calibration.tokens=0", "calibration.tokens: got 0, expected at least 1"),
        ("verify.density=0", "verify.density: got 0.0"),
        ("verify.prompts=0", "verify.prompts: got 0, expected 1 to 4"),
        ("verify.prompts=5", "verify.prompts: got 5, expected 1 to 4"),
    ],
)
def test_bad_override(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("smollm2", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not valid TOML"),
        ('[model]\nname = "m"\n', "model.sources: missing"),
        ('[model]\nname = "m"\nsources = []\n', "at least one of [[model.sources]]"),
        ('[model]\nname = "m"\n[[model.sources]]\nkind = "local"\n', "'local' needs 'path'"),
        (MODEL + 'path = "x"\n', "'path' belongs to a source of kind 'local'"),
        (MODEL + '[[model.sources]]\nkind = "hob"\n', "model.sources[1].kind: got 'hob'"),
        (WHEELS + 'file = "m.gguf"\nsha256 = "0"\n', "'wheels' needs 'parts'"),
        (
            WHEELS + 'file = "../m.gguf"\nsha256 = "0"\nparts = [{package="p==1", member="m"}]\n',
            "expected a plain name",
        ),
        (
            WHEELS + 'file = "m.gguf"\nsha256 = "0"\nparts = [{package="p==1", member="m"}]\n',
            "expected 64 lower-case hex digits",
        ),
        (
            WHEELS + 'file = "m.gguf"\nparts = [{package="p", membre="m"}]\n',
            "parts[0]: unknown key",
        ),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert message in str(caught.value)


def test_a_recipe_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="give a readable .toml file"):
        load(path)


def test_what_is_recorded_names_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    recipes = [resolve(str(path)) for path in (tmp_path / "mine", ".", "../mine")]
    assert {recipe.recorded().model.sources[0].path for recipe in recipes} == {"mine"}
    assert len({recipe.digest() for recipe in recipes}) == 1
    assert recipes[0].recorded().recorded() == recipes[0].recorded()
    hub = resolve("owner/name@main")
    assert hub.recorded() == hub
