"""The command line as a whole: help, exit codes, and what goes to stdout and stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import glass
from typer.testing import CliRunner

import glass_export
from glass_export.cli.app import app

COMMANDS = [
    "plan", "run", "compare", "bench", "eval", "tune", "inspect", "verify", "recipes",
    "build-native", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout and command in result.stdout


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_root_help_lists_commands_and_export_options(args: list[str]) -> None:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0
    for word in (*COMMANDS, "--model", "--target", "--dtype", "--set"):
        assert word in result.stdout


def test_version() -> None:
    assert glass("--version").stdout == f"glass-export {glass_export.__version__}\n"


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "recipes", "inspect {artifact}", "run {artifact} hello"]
)
def test_heavy_libraries_stay_out(artifact: Path, command: str) -> None:
    """Help and running an artifact import none of what only an export needs."""
    code = (
        "import sys; from glass_export.cli import run; run(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'onnx', 'onnx_ir', 'gguf', 'huggingface_hub'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    args = command.format(artifact=artifact).split()
    outcome = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


def test_closed_pipe_ends_quietly(artifact: Path) -> None:
    command = f"{sys.executable} -m glass_export inspect {artifact} --json | head -c 1"
    outcome = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert outcome.stdout == "{" and "Traceback" not in outcome.stderr


def test_interrupt_ends_with_130(artifact: Path) -> None:
    code = (
        "import sys; from glass_export import artifact; from glass_export.cli import run\n"
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "artifact.Artifact.open = interrupted\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "inspect", str(artifact)]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 130 and "Traceback" not in outcome.stderr


def test_unexpected_error_is_short_unless_verbose(artifact: Path) -> None:
    code = (
        "import sys; from glass_export import artifact; from glass_export.cli import run\n"
        "def broken(*_, **__): raise ZeroDivisionError('bug')\n"
        "artifact.Artifact.open = broken\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    for flags, traceback in (([], False), (["-v"], True)):
        command = [sys.executable, "-c", code, *flags, "inspect", str(artifact)]
        outcome = subprocess.run(command, capture_output=True, text=True)
        assert outcome.returncode == 1 and "ZeroDivisionError: bug" in outcome.stderr
        assert ("Traceback" in outcome.stderr) is traceback


def test_missing_extra_tells_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from glass_export.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--model", "smollm2"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert outcome.returncode == 1
    assert "torch is not installed; run: pip install 'glass-export[export]'" in outcome.stderr
