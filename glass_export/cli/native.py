"""``glass-export build-native``."""

from __future__ import annotations

from typing import Annotated

import typer


def build_native(
    force: Annotated[
        bool, typer.Option("--force", help="Build again, even when it is there.")
    ] = False,
) -> None:
    """Build the native operators for ExecuTorch, and print where they are.

    An export or a run does so by itself when they are missing.
    """
    from glass_export import native

    typer.echo(native.library("executorch", force=force))
