"""The command tree: without a subcommand the options export a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import glass_export
from glass_export import console
from glass_export.cli.artifacts import inspect, recipes, verify
from glass_export.cli.bench import bench
from glass_export.cli.compare import compare
from glass_export.cli.doctor import doctor
from glass_export.cli.evaluate import evaluate
from glass_export.cli.export import export, target_overrides
from glass_export.cli.generate import run
from glass_export.cli.native import build_native
from glass_export.cli.plan import plan
from glass_export.cli.signing import SignOption, keygen, sign
from glass_export.cli.tune import tune

EPILOG = "Example: glass-export --model smollm2 --target onnx"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glass-export {glass_export.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EPILOG)
def root(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="What to export: a recipe's name, a hub id, a model folder or a .gguf file.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="NAME",
            help="Runtime to compile for: onnx (the default) or executorch.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="FORMAT",
            help="Weights: fp32 (the default), int8 or int4.",
        ),
    ] = None,
    custom_ops: Annotated[
        bool | None,
        typer.Option(
            "--custom-ops/--no-custom-ops",
            help="Use the project's own operators (the default for executorch), or stock ones.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory (default: artifacts/MODEL-TARGET)."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change a recipe's value; repeatable."),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Skip the comparison with the eager model.")
    ] = False,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Read weights when they are used (default: if they do not fit in memory).",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not use results that earlier exports left.")
    ] = False,
    signing_key: SignOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Everything on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a Hugging Face LLM into an on-device artifact with prompt-aware FFN sparsity.

    Without a command: export MODEL for TARGET. The commands work on finished artifacts.
    """
    console.setup(quiet=quiet, verbose=verbose)
    given = (model, target, dtype, output, overrides, no_verify, as_json, fresh, signing_key)
    exporting = any(given) or custom_ops is not None or stream is not None
    if context.invoked_subcommand:
        if exporting:
            raise typer.BadParameter(
                "--model, --target, --dtype, --custom-ops, --output, --set, --no-verify, --stream, "
                f"--fresh, --sign and --json before {context.invoked_subcommand!r} belong to an "
                "export; remove them, or the command"
            )
        return
    if not exporting:
        typer.echo(context.get_help())
        return
    if not model:
        raise typer.BadParameter("--model is missing; see `glass-export recipes` for names")
    changes = [*(overrides or []), *target_overrides(target, dtype, custom_ops)]
    export(
        model,
        output,
        changes,
        verify=not no_verify,
        stream=stream,
        fresh=fresh,
        signing_key=signing_key,
        as_json=as_json,
    )


COMMANDS = (
    plan, run, compare, bench, tune, inspect, verify, keygen, sign, recipes, build_native, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command("eval")(evaluate)
