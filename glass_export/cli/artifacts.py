"""``inspect``, ``verify`` and ``recipes``: what is in an artifact, and is it right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from glass_export import console
from glass_export.cli.signing import TrustedKeys, trusted_keys

if TYPE_CHECKING:
    from glass_export.artifact import Artifact
    from glass_export.manifest import Manifest, SearchInfo, TargetInfo
    from glass_export.spec import TensorSpec

Directory = Annotated[Path, typer.Argument(help="Artifact directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

BEST_RULES = 5
"""How many of the rules that a search compared are shown."""


def inspect(directory: Directory, as_json: AsJson = False) -> None:
    """Show what an artifact holds: model, profiles, graphs, prior, verification, files."""
    from glass_export.artifact import Artifact

    artifact = Artifact.open(directory)
    if as_json:
        typer.echo(artifact.manifest.to_json(), nl=False)
        return
    for table in (
        _overview(artifact),
        _profiles(artifact.manifest),
        *([_search(found)] if (found := artifact.manifest.search) else []),
        _graphs(artifact.manifest),
        _prior(artifact),
        *_agreement(artifact),
        *([_checks(v)] if (v := artifact.manifest.verification) else []),
        _files(artifact.manifest),
    ):
        console.stdout.print(table)


def verify(
    directory: Directory,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Export its recipe again and compare all files instead."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="PATH", help="With --rebuild: where the model lies."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="With --rebuild: use no results that exports left."),
    ] = False,
    trusted_key: TrustedKeys = None,
    as_json: AsJson = False,
) -> None:
    """Compare an artifact with the eager model again, or with a rebuilt one.

    Exit code 1 when they differ.
    """
    if rebuild:
        _rebuild(directory, model, fresh=fresh, as_json=as_json)
        return
    if model is not None or fresh:
        raise typer.BadParameter("--model and --fresh belong to --rebuild; add it")
    from glass_export.verify import require_passed, verify_artifact

    report = verify_artifact(directory, trusted_keys=trusted_keys(trusted_key))
    if as_json:
        typer.echo(json.dumps(report))
    else:
        console.stdout.print(_checks(report))
    require_passed(report)


def _rebuild(directory: Path, model: str | None, *, fresh: bool, as_json: bool) -> None:
    from glass_export.paths import forget_results
    from glass_export.rebuild import rebuild, require_identical

    if fresh:
        forget_results()
    found = rebuild(directory, model=model)
    if as_json:
        files = [
            {"path": f.path, "artifact": f.artifact, "rebuilt": f.rebuilt, "same": f.same}
            for f in found.files
        ]
        typer.echo(
            json.dumps(
                {
                    "identical": found.identical,
                    "files": files,
                    "manifest": found.manifest,
                    "tuned": found.tuned,
                }
            )
        )
    else:
        table = _table("rebuilt", "file", "sha256", "")
        for file in found.files:
            mark = "[green]same" if file.same else "[red]DIFFERENT"
            table.add_row(escape(file.path), (file.artifact or "")[:12], mark)
        table.add_row("glass.json", "", "[red]DIFFERENT" if found.manifest else "[green]same")
        console.stdout.print(table)
        if found.tuned:
            console.stdout.print(f"not compared: profiles of tune: {', '.join(found.tuned)}")
    require_identical(directory, found)


def recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with the package."""
    from glass_export.recipe import recipe_names, resolve

    found = {name: resolve(name) for name in recipe_names()}
    if as_json:
        listed = [{"name": name, "model": r.model.name} for name, r in found.items()]
        typer.echo(json.dumps(listed))
        return
    table = Table("recipe", "source", "density", "fusion", "prior", box=None, pad_edge=False)
    for name, recipe in found.items():
        source, chosen = recipe.model.sources[0], recipe.selection
        reference = source.repo or source.path or source.file
        table.add_row(name, reference, f"{chosen.density:g}", chosen.fusion, chosen.prior)
    console.stdout.print(table)


def _table(title: str, *columns: str) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False,
        show_header=bool(columns),
    )  # fmt: skip


def _form(target: TargetInfo) -> str:
    """Runtime, number formats, and whether the project's own operators are needed."""
    ffn = "" if target.ffn_dtype == target.dtype else f" (FFN {target.ffn_dtype})"
    own = ", with own operators" if target.custom_ops else ""
    return f"{target.name}, {target.dtype}{ffn}{own}"


def _overview(artifact: Artifact) -> Table:
    manifest = artifact.manifest
    model, target, chosen = manifest.model, manifest.target, manifest.selection
    dims = model.dims
    source = f"{model.source.kind} {model.source.reference}"
    sizes = f"{dims.layers} layers, width {dims.d_model}, FFN {dims.d_ff}, vocab {dims.vocab_size}"
    choice = f"density {chosen.density:g}, {chosen.fusion}, local {chosen.local}"
    rows = {
        "model": f"{model.name} ({model.family}), {sizes}",
        "source": f"{source} [sha256 {model.source.sha256[:12]}]",
        "context": f"{model.max_length} tokens, prefill in chunks of {target.prefill_chunk}",
        "target": _form(target),
        "selection": f"{choice}, prior {chosen.prior}, lam {chosen.lam:g}, tau {chosen.tau:g}",
        "tools": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()),
        "signed by": _signers(artifact),
    }
    table = _table(model.name)
    table.show_header = False
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _signers(artifact: Artifact) -> str:
    from glass_export.artifact.signature import read_signatures

    found = read_signatures(artifact.path)
    return f"{', '.join(found)} (not checked: --trusted-key of `verify`)" if found else "nobody"


def _profiles(manifest: Manifest) -> Table:
    if not manifest.profiles:
        return _table("\nprofiles: none")
    columns = ("profile", "density", "refresh", "dense start", "KL", "x dense", "measured on")
    table = _table("\nprofiles", *columns)
    for name, profile in manifest.profiles.items():
        table.add_row(
            escape(name), f"{profile.density:g}", str(profile.refresh or "off"),
            str(profile.dense_start), _number(profile.kl), _number(profile.speedup),
            escape(profile.device or ""),
        )  # fmt: skip
    return table


def _search(found: SearchInfo) -> Table:
    """The best of the rules that a search compared."""
    table = _table(
        f"\nrule: best of {len(found.rules)}, found at density {found.density:g} on {found.texts} "
        f"texts ({found.steps:,} tokens)",
        "rule", "text of the prior", "KL",
    )  # fmt: skip
    for row in found.rules[:BEST_RULES]:
        table.add_row(escape(row.rule), row.text, f"{row.kl:.3f} ± {row.error:.3f}")
    return table


def _graphs(manifest: Manifest) -> Table:
    table = _table("\ngraphs", "graph", "", "tensor", "type", "shape")
    for role, signature in manifest.target.signatures.items():
        for way, tensors in (("in", signature.inputs), ("out", signature.outputs)):
            for row in _grouped(tensors):
                table.add_row(role, way, *map(escape, row))
    return table


def _grouped(tensors: tuple[TensorSpec, ...]) -> list[tuple[str, str, str]]:
    """One row for all tensors that differ only in a number in their name, such as the layer."""
    groups: dict[tuple[str, str, str], int] = {}
    for tensor in tensors:
        name = re.sub(r"\d+", "#", tensor.name)
        shape = "[" + ", ".join(map(str, tensor.shape)) + "]"
        key = (name, tensor.dtype, shape)
        groups[key] = groups.get(key, 0) + 1
    return [
        (f"{name} x{count}" if count > 1 else name, dtype, shape)
        for (name, dtype, shape), count in groups.items()
    ]


def _prior(artifact: Artifact) -> Table:
    info = artifact.manifest.prior
    title = f"\nprior: {info.tokens} tokens, temperature {info.temperature:g}, seed {info.seed}"
    table = _table(title, "statistic", "shape", "mean", "max", "mass of the top half")
    for name, values in artifact.prior().items():
        ranked = values.copy()
        ranked.sort(axis=1)
        top = ranked[:, values.shape[1] // 2 :].sum() / max(ranked.sum(), 1e-30)
        shape = "x".join(map(str, values.shape))
        table.add_row(name, shape, f"{values.mean():.3g}", f"{values.max():.3g}", f"{top:.0%}")
    return table


def _agreement(artifact: Artifact) -> list[Table]:
    """Share of common neurons of each two priors, and of each with the others by layer; nothing
    where all neurons are kept.
    """
    import numpy as np

    from glass_export.fusion import Priors
    from glass_export.spec import STATISTICS, layer_budgets
    from glass_export.uncertainty import prior_agreement

    dims, chosen = artifact.manifest.model.dims, artifact.manifest.selection
    budgets = layer_budgets(chosen.density, dims.d_ff, dims.rows, chosen.dense_layers)
    if min(budgets) == dims.d_ff:
        return []
    shares = prior_agreement(Priors(artifact.prior()), budgets)
    others = (shares.sum(1) - 1) / (len(STATISTICS) - 1)
    title = f"\nagreement of the priors at density {chosen.density:g}"
    table = _table(title, "statistic", *STATISTICS, "median layer", "lowest layer", "which")
    for name, pairs, by_layer in zip(STATISTICS, shares.mean(2), others, strict=True):
        cells = (f"{share:.0%}" for share in (*pairs, np.median(by_layer), by_layer.min()))
        table.add_row(name, *cells, str(by_layer.argmin()))
    return [table]


def _checks(report: dict[str, Any]) -> Table:
    passed = "passed" if report.get("passed") else "FAILED"
    table = _table(f"\nverification: {passed}", "check", "value", "limit", "")
    for check in report.get("checks", []):
        mark = "[green]ok" if check.get("passed") else "[red]FAILED"
        table.add_row(
            escape(str(check.get("name"))), _number(check.get("value")),
            _number(check.get("limit")), mark,
        )  # fmt: skip
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))


def _files(manifest: Manifest) -> Table:
    table = _table("\nfiles", "file", "bytes", "sha256")
    table.columns[1].justify = "right"
    for entry in manifest.files:
        table.add_row(escape(entry.path), f"{entry.size:,}", entry.sha256[:12])
    return table
