"""Every command and option has to be documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from glass_export.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "artifacts" / "README.md"]
CLI = (ROOT / "docs" / "cli.md").read_text()
COMMAND: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = COMMAND.commands


def options(command: Any) -> list[str]:
    names = [name for param in command.params for name in (*param.opts, *param.secondary_opts)]
    return [name for name in names if name.startswith("-")]


def section(name: str) -> str:
    """The part of docs/cli.md about the command ``name``."""
    found = re.search(rf"^## `glass-export {name}.*?(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section `glass-export {name}`"
    return found.group()


def test_the_commands_are_the_expected_ones() -> None:
    expected = {
        "plan", "run", "compare", "inspect", "verify", "recipes", "build-native", "bench", "eval",
        "tune", "doctor", "keygen", "sign",
    }  # fmt: skip
    assert set(COMMANDS) == expected


@pytest.mark.parametrize("option", options(COMMAND))
def test_export_option_is_documented(option: str) -> None:
    export = CLI[CLI.index("## Export") : CLI.index("## `glass-export run")]
    assert re.search(rf"`{option}\b", export), f"docs/cli.md does not mention {option}"


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n, command in COMMANDS.items() for o in options(command)]
)
def test_command_option_is_documented(name: str, option: str) -> None:
    assert re.search(rf"`{option}\b", section(name)), f"{option} of {name} is not in docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme(name: str) -> None:
    assert f"glass-export {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_documented_that_does_not_exist(name: str) -> None:
    documented = set(re.findall(r"`(--[a-z-]+)`", section(name)))
    assert documented <= {*options(COMMANDS[name]), "--help"}


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT) for p in PAGES), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / page.parent / link).exists()] == []
