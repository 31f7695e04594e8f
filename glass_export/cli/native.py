"""``glass-export build-native``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def build_native(
    runtime: Annotated[
        Literal["executorch", "onnxruntime"],
        typer.Argument(help="The runtime that the operators are for."),
    ] = "executorch",
    force: Annotated[
        bool, typer.Option("--force", help="Build again, even when it is there.")
    ] = False,
) -> None:
    """Build the native operators for a runtime, and print where they are.

    An export or a run does so by itself when they are missing.
    """
    from glass_export import native

    typer.echo(native.library(runtime, force=force))
