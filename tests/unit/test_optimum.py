"""``optimum-cli export glass``, by optimum's own program."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_models import CONTEXT

pytest.importorskip("optimum.commands.base", reason="needs the extra optimum")

from glass_export import Session
from glass_export.cli.app import app
from glass_export.cli.optimum import LEFT_OUT, add_options, arguments

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from optimum.commands.optimum_cli import main; main()"
REGISTER = "optimum/commands/register/register_glass.py"


@pytest.fixture(scope="module")
def optimum_cli(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs optimum-cli; the registering file is where an installation puts it."""
    where = tmp_path_factory.mktemp("site")
    commands = importlib.util.find_spec("optimum.commands")
    assert commands is not None
    folders = [Path(folder) for folder in commands.submodule_search_locations or ()]
    if not any((folder / "register/register_glass.py").exists() for folder in folders):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        (source,) = (name for name, place in included.items() if place == REGISTER)
        (where / REGISTER).parent.mkdir(parents=True)
        shutil.copy(ROOT / source, where / REGISTER)
    paths = os.pathsep.join([str(ROOT), str(where), os.environ.get("PYTHONPATH", "")])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
        )  # fmt: skip

    return run


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(given)


def values(*given: str) -> dict[str, Any]:
    """What ``glass-export`` makes of a command line."""
    command: Any = typer.main.get_command(app)
    return dict(command.make_context("glass-export", list(given)).params)


def test_every_option_of_an_export_is_there(
    optimum_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    outcome = optimum_cli("export", "glass", "--help")
    assert outcome.returncode == 0, outcome.stderr
    command: Any = typer.main.get_command(app)
    names = {
        name
        for option in command.params
        if option.name not in LEFT_OUT
        for name in (*option.opts, *option.secondary_opts)
    }
    assert {"--model", "--target", "--no-custom-ops", "--set"} <= names
    words = outcome.stdout.replace(",", " ").replace("[", " ").replace("]", " ").split()
    assert names | {"-h", "--help"} == {word for word in words if word.startswith("-")}
    assert "OUTPUT" in words


@pytest.mark.parametrize(
    "given",
    [
        ("-m", "smollm2"),
        ("--model", "a/b@v1", "--target", "executorch", "--dtype", "int4", "--no-custom-ops"),
        ("-m", "x", "-t", "onnx", "--custom-ops", "--no-verify", "--json", "-q"),
        ("-m", "x", "--set", "export.max_length=64", "--set", "selection.mode=fixed", "-v"),
    ],
    ids=" ".join,
)
def test_options_mean_what_they_mean_to_glass_export(given: tuple[str, ...]) -> None:
    assert values(*arguments(parsed(*given, "out"))) == values(*given, "--output", "out")


def test_a_failure_is_told_with_the_same_exit_code(
    optimum_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    outcome = optimum_cli("export", "glass", "--model", "nonsense", "out")
    assert outcome.returncode == 2
    assert "not a recipe" in outcome.stderr and "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_an_export(
    optimum_cli: Callable[..., subprocess.CompletedProcess[str]],
    checkpoint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    settings = [
        "calibration.tokens=512", "calibration.sequence_length=32", "selection.mode=fixed",
        f"export.max_length={CONTEXT}", "verify.tokens=8",
    ]  # fmt: skip
    options = [word for setting in settings for word in ("--set", setting)]
    outcome = optimum_cli(
        "export", "glass", "--model", str(checkpoint("llama")), *options, str(tmp_path / "a")
    )
    assert outcome.returncode == 0, outcome.stderr
    with Session.open(tmp_path / "a") as session:
        assert session.generate("the quick", max_new_tokens=4, density=0.5).token_ids
