"""``glass-export --model M --target T``: export a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from glass_export import console
from glass_export.cli.signing import load_key
from glass_export.paths import forget_results

if TYPE_CHECKING:
    from glass_export.manifest import Manifest
    from glass_export.recipe import Recipe


def export(
    model: str,
    output: Path | None,
    overrides: list[str],
    *,
    verify: bool,
    stream: bool | None,
    fresh: bool,
    signing_key: Path | None,
    as_json: bool,
) -> None:
    """Resolve the recipe, export it and tell where the artifact is."""
    key = load_key(signing_key) if signing_key else None
    recipe, folder = recipe_and_folder(model, output, overrides, verify=verify)
    if fresh:
        forget_results()

    from glass_export import pipeline
    from glass_export.calibrate.team import current

    if not current().leads:
        pipeline.help_export(recipe)
        return
    manifest = pipeline.export(recipe, folder, streamed=stream, key=key)
    _report(folder, manifest, as_json=as_json)


def recipe_and_folder(
    model: str, output: Path | None, overrides: list[str], *, verify: bool
) -> tuple[Recipe, Path]:
    """What is to be exported, and where to.

    Raises:
        RecipeError: no such model, target or value.
    """
    from glass_export.recipe import resolve
    from glass_export.targets import check_target

    if not verify:
        overrides = [*overrides, "verify.enabled=false"]
    recipe = resolve(model, overrides)
    check_target(recipe.target.name)
    return recipe, output or Path("artifacts") / _folder_name(recipe)


def target_overrides(target: str | None, dtype: str | None, custom_ops: bool | None) -> list[str]:
    """The options of a target as overrides of a recipe."""
    given = (("name", target), ("dtype", dtype))
    changes = [f'target.{key}="{value}"' for key, value in given if value]
    return changes + (
        [] if custom_ops is None else [f"target.custom_ops={str(custom_ops).lower()}"]
    )


def _folder_name(recipe: Recipe) -> str:
    """model-target, with what is not the default: the number format, and the form."""
    from glass_export.recipe import default_custom_ops

    target = recipe.target
    parts = [recipe.model.name, target.name]
    parts += [target.dtype] if target.dtype != "fp32" else []
    if target.custom_ops != default_custom_ops(target.name):
        parts.append("custom-ops" if target.custom_ops else "portable")
    return "-".join(parts)


def _report(folder: Path, manifest: Manifest, *, as_json: bool) -> None:
    size = sum(entry.size for entry in manifest.files)
    checked = manifest.verification is not None
    if as_json:
        result = {
            "artifact": str(folder),
            "model": manifest.model.name,
            "target": manifest.target.name,
            "bytes": size,
            "verification": manifest.verification,
        }
        typer.echo(json.dumps(result))
        return
    state = "verified" if checked else "not verified"
    console.stdout.print(f"[bold]{escape(str(folder))}[/]  {size / 1e6:,.1f} MB  {state}")
    console.stderr.print(f'[dim]try it: glass-export run {escape(str(folder))} "Who are you?"')
