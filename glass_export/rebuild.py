"""Makes an artifact once more, from what it records, and compares the two file by file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from glass_export import pipeline
from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, SourceError, VerificationError
from glass_export.manifest import MANIFEST_NAME, Manifest
from glass_export.recipe import ModelRecipe, Recipe, Source
from glass_export.schema import from_data, to_data
from glass_export.sources import FetchedModel, fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFile:
    """SHA-256 of a file in the artifact and in the rebuilt one; None where it is missing."""

    path: str
    artifact: str | None
    rebuilt: str | None

    @property
    def same(self) -> bool:
        """Whether both have it, with the same bytes."""
        return self.artifact == self.rebuilt


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """How a rebuilt artifact compares.

    ``files``: all but the manifest; ``manifest``: keys whose values differ, such as
    ``verification.checks[3].value``; ``tuned``: profiles that ``tune`` has written since, which are
    not compared.
    """

    files: tuple[ComparedFile, ...]
    manifest: tuple[str, ...]
    tuned: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether the rebuilt artifact is the same."""
        return not self.manifest and all(file.same for file in self.files)


def rebuild(path: Path, *, model: str | None = None, streamed: bool | None = None) -> Rebuilt:
    """Export an artifact's recipe again, into a temporary folder, and compare.

    Args:
        path: The artifact's directory; all hashes are checked first.
        model: A folder or .gguf file that holds the model; None: the source that the manifest
            names, of a local one a file or folder of that name in the current directory.
        streamed: As of an export.

    Raises:
        ArtifactError: the artifact is damaged, or its recipe is not one of this version.
        VerificationError: it was made with other versions of the tools.
        SourceError: the model cannot be found, or is another one.
        GlassError: as pipeline.export.
    """
    manifest = Artifact.open(path, check="full").manifest
    recipe = from_data(Recipe, manifest.recipe, error=ArtifactError, where=f"{path}: recipe")
    _require_tools(path, manifest.tools)
    fetched = _fetch(path, manifest, recipe, model)
    with tempfile.TemporaryDirectory(prefix="glass-export-rebuild-") as folder:
        again = pipeline.export(recipe, Path(folder) / "again", streamed=streamed, fetched=fetched)
    return compare(manifest, again)


def compare(first: Manifest, again: Manifest) -> Rebuilt:
    """Two manifests of sealed artifacts, file by file and key by key."""
    hashes = [{entry.path: entry.sha256 for entry in m.files} for m in (first, again)]
    names = sorted({name for found in hashes for name in found})
    tuned = tuple(name for name, p in first.profiles.items() if again.profiles.get(name) != p)
    plain = [to_data(replace(m, files=(), profiles={})) for m in (first, again)]
    return Rebuilt(
        files=tuple(
            ComparedFile(path=name, artifact=hashes[0].get(name), rebuilt=hashes[1].get(name))
            for name in names
        ),
        manifest=tuple(_differing(*plain)),
        tuned=tuned,
    )


def require_identical(path: Path, rebuilt: Rebuilt) -> None:
    """Raise VerificationError, listing what differs, unless the two are the same."""
    if rebuilt.identical:
        return
    files = [f"  {file.path}: {_told(file)}" for file in rebuilt.files if not file.same]
    keys = [f"  {MANIFEST_NAME}: {key}" for key in rebuilt.manifest]
    raise VerificationError(
        f"{path}: the rebuilt artifact differs:\n" + "\n".join([*files, *keys]) + "\n"
        "another processor, device of the calibration or build of the same versions gives other "
        "bits; see docs/reliability.md"
    )


def _told(file: ComparedFile) -> str:
    if file.artifact is None or file.rebuilt is None:
        return "only in the rebuilt one" if file.artifact is None else "not in the rebuilt one"
    return f"SHA-256 {file.artifact[:12]}, rebuilt {file.rebuilt[:12]}"


def _differing(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Keys of plain data whose values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            inner = f"{where}.{key}" if where else key
            yield from _differing(first.get(key), second.get(key), inner)
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            yield f"{where}: {len(first)} items, rebuilt {len(second)}"
            return
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _differing(one, other, f"{where}[{index}]")
    elif first != second:
        yield f"{where}: {first!r}, rebuilt {second!r}"


def _require_tools(path: Path, tools: dict[str, str]) -> None:
    """Whether the packages that made the artifact are those that are installed."""
    other = []
    for name, version in tools.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "none"
        if installed != version:
            other.append(f"{name} {version} (installed: {installed})")
    if other:
        raise VerificationError(
            f"{path}: cannot be rebuilt here, it was made with {', '.join(other)}; install these "
            "versions, in an environment of their own, and try again"
        )


def _fetch(path: Path, manifest: Manifest, recipe: Recipe, model: str | None) -> FetchedModel:
    """The model that the artifact was made of, told by its hash."""
    wanted = manifest.model.source
    if model is None:
        sources = tuple(_pinned(s, wanted.reference) for s in recipe.model.sources)
        sources = tuple(source for source in sources if source.kind == wanted.kind)
    else:
        sources = (Source(kind="local", path=model),)
    try:
        found = fetch(ModelRecipe(name=recipe.model.name, sources=sources))
    except SourceError as problem:
        raise SourceError(
            f"{path}: cannot be rebuilt without its model, {wanted.kind} {wanted.reference}: "
            f"{problem} With verify, that is --rebuild --model PATH."
        ) from problem
    if found.info.sha256 != wanted.sha256:
        raise SourceError(
            f"{found.path}: is not the model that {path} was made of: SHA-256 is "
            f"{found.info.sha256}, expected {wanted.sha256}; give the right one with --model"
        )
    return FetchedModel(found.path, wanted)


def _pinned(source: Source, reference: str) -> Source:
    """A source of the hub at the commit that the manifest noted."""
    _, _, commit = reference.partition("@")
    return replace(source, revision=commit) if source.kind == "hub" and commit else source
