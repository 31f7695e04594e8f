"""``optimum-cli export glass``: the export of this command line as a subcommand of optimum's.

Its options are made of those of ``glass-export`` and handed on as they are. optimum finds it by
``plugins/optimum/register_glass.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import typer
from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from glass_export.cli import run

LEFT_OUT = ("output", "version")
"""Options of ``glass-export`` that are none here; OUTPUT is an argument, as usual in optimum."""


def export_options() -> list[Any]:
    """The options of ``glass-export`` that an export by optimum has, as click describes them."""
    from glass_export.cli.app import app

    command: Any = typer.main.get_command(app)
    return [option for option in command.params if option.name not in LEFT_OUT]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options, and the argument OUTPUT."""
    parser.add_argument("output", metavar="OUTPUT", help="Directory of the artifact.")
    for option in export_options():
        shared: dict[str, Any] = {"dest": option.name, "help": option.help}
        if not option.is_flag:
            shared |= {"metavar": option.metavar, "required": option.name == "model"}
            parser.add_argument(
                *option.opts, action="append" if option.multiple else "store", **shared
            )
        elif option.secondary_opts:
            parser.add_argument(*option.opts, action=argparse.BooleanOptionalAction, **shared)
        else:
            parser.add_argument(*option.opts, action="store_true", default=None, **shared)


def arguments(given: argparse.Namespace) -> list[str]:
    """The command line of ``glass-export`` that means what was ``given``."""
    command = ["--output", given.output]
    for option in export_options():
        value = getattr(given, option.name)
        if option.is_flag and value is not None:
            command.append((option.opts if value else option.secondary_opts)[0])
        elif not option.is_flag:
            values = value or [] if option.multiple else [value] * (value is not None)
            command += [f"{option.opts[0]}={one}" for one in values]
    return command


class GlassExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no types
    """The subcommand; optimum makes one to parse, and one to run what was parsed."""

    COMMAND = CommandInfo(
        name="glass",
        help="Export an LLM with prompt-aware FFN sparsity to ONNX Runtime or ExecuTorch.",
    )

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add_options(parser)

    def run(self) -> None:
        """Export; a failure ends the program with the exit code of ``glass-export``."""
        if code := run(arguments(self.args)):
            sys.exit(code)


REGISTER_COMMANDS: Sequence[tuple[type[GlassExportCommand], type[ExportCommand]]] = [
    (GlassExportCommand, ExportCommand)
]
"""Name and form are those that optimum asks for: a command and its parent."""
