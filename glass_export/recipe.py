"""Recipes: everything an export depends on, as frozen dataclasses read from TOML."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from glass_export.errors import RecipeError
from glass_export.schema import from_data, suggest, to_data
from glass_export.selection import SelectionRecipe as SelectionRecipe
from glass_export.selection import require_least, require_share

Dtype = Literal["fp32", "int8", "int4"]

VERIFY_PROMPTS = 4
"""Prompts that verification knows: verify.eager.PROMPTS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPart:
    """One part of a model file inside a package's wheel."""

    package: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place a model can come from. Which fields are needed depends on ``kind``.

    ``local``: ``path``, a Hugging Face folder or a .gguf file; ``hub``: ``repo`` and, optionally,
    ``revision``; ``wheels``: ``file``, ``sha256``, ``parts`` and, optionally, ``size`` in bytes, a
    GGUF split over package wheels.
    """

    kind: Literal["local", "hub", "wheels"]
    path: str = ""
    repo: str = ""
    revision: str | None = None
    file: str = ""
    sha256: str = ""
    size: int | None = None
    parts: tuple[WheelPart, ...] = ()

    def __post_init__(self) -> None:
        for name in _SOURCE_KEYS[self.kind]:
            if not getattr(self, name):
                raise RecipeError(f"model.sources: a source of kind {self.kind!r} needs {name!r}")
        for name, keys in _SOURCE_KEYS.items():
            foreign = next((key for key in keys if name != self.kind and getattr(self, key)), None)
            if foreign:
                raise RecipeError(
                    f"model.sources: {foreign!r} belongs to a source of kind {name!r}, "
                    f"got it with kind {self.kind!r}"
                )
        if self.kind == "wheels" and (
            Path(self.file).name != self.file or not self.file.endswith(".gguf")
        ):
            raise RecipeError(
                f"model.sources: file is {self.file!r}, expected a plain name that ends in .gguf"
            )
        if self.kind == "wheels" and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise RecipeError(
                f"model.sources: sha256 is {self.sha256!r}, expected 64 lower-case hex digits"
            )

    @property
    def label(self) -> str:
        """Kind and name of the source, for messages."""
        return f"{self.kind} {self.path or self.repo or self.file}"


_SOURCE_KEYS = {"local": ("path",), "hub": ("repo",), "wheels": ("file", "sha256", "parts")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """Which model: sources are tried in order."""

    name: str
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.sources:
            raise RecipeError(
                "model: expected a name and at least one of [[model.sources]]; see "
                "`glass-export recipes` for examples"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecipe:
    """How the global prior is computed. ``tokens``: null-prompt tokens the model writes itself."""

    tokens: int = 8192
    sequence_length: int = 256
    batch: int = 32
    temperature: float = 1.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require_least("calibration.tokens", self.tokens, 1)
        require_least("calibration.sequence_length", self.sequence_length, 8)
        require_least("calibration.batch", self.batch, 1)
        if not 0 < self.temperature < math.inf:
            raise RecipeError(
                f"calibration.temperature: got {self.temperature}, expected a number above 0; "
                "the paper samples at 1.0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecipe:
    """Shape of the artifact. ``max_length``: context in tokens, prompt and answer together;
    ``prefill_chunk``: most tokens of one prefill call.
    """

    max_length: int = 2048
    prefill_chunk: int = 256

    def __post_init__(self) -> None:
        require_least("export.max_length", self.max_length, 16)
        require_least("export.prefill_chunk", self.prefill_chunk, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRecipe:
    """Which runtime the artifact is for, and in which form.

    ``dtype``: of the weights; a target says what it quantises. ``custom_ops``: use the project's
    own operators; without, any build of the runtime will do. Left out, it is what suits the target;
    see :func:`default_custom_ops`.
    """

    name: str = "onnx"
    dtype: Dtype = "fp32"
    custom_ops: bool = None  # type: ignore[assignment]  # a bool after __post_init__

    def __post_init__(self) -> None:
        if self.custom_ops is None:
            object.__setattr__(self, "custom_ops", default_custom_ops(self.name))


def default_custom_ops(target: str) -> bool:
    """Whether a target uses the project's operators when the recipe does not say.

    ExecuTorch does: its programs are compiled into applications, and the library with them. Others
    do not, so that a plain installation of the runtime can open the artifact.
    """
    return target == "executorch"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRecipe:
    """The gate at the end of an export.

    ``prompts``: how many of the built-in ones are compared, the first is the shortest; ``tokens``:
    greedy tokens of each; ``tolerance``: see verify.compare, None for what suits the number format.
    """

    enabled: bool = True
    prompts: int = VERIFY_PROMPTS
    tokens: int = 64
    density: float = 0.5
    tolerance: float | None = None

    def __post_init__(self) -> None:
        require_least("verify.tokens", self.tokens, 1)
        if not 1 <= self.prompts <= VERIFY_PROMPTS:
            raise RecipeError(
                f"verify.prompts: got {self.prompts}, expected 1 to {VERIFY_PROMPTS}, the number "
                "of built-in prompts"
            )
        require_share("verify.density", self.density)
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise RecipeError(f"verify.tolerance: got {self.tolerance}, expected a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole export."""

    model: ModelRecipe
    calibration: CalibrationRecipe = field(default_factory=CalibrationRecipe)
    selection: SelectionRecipe = field(default_factory=SelectionRecipe)
    export: ExportRecipe = field(default_factory=ExportRecipe)
    target: TargetRecipe = field(default_factory=TargetRecipe)
    verify: VerifyRecipe = field(default_factory=VerifyRecipe)

    def recorded(self) -> Recipe:
        """The recipe as artifacts have it: local models by name alone.

        Where a model lies says something about the machine and nothing about the artifact.
        """
        sources = tuple(
            replace(source, path=_last_name(source.path)) if source.kind == "local" else source
            for source in self.model.sources
        )
        return replace(self, model=replace(self.model, sources=sources))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of :meth:`recorded`; equal recipes have equal digests."""
        canonical = json.dumps(to_data(self.recorded()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _last_name(path: str) -> str:
    """The name of a file or folder, of ``.`` and ``..``, too; links are not followed."""
    return os.path.basename(os.path.abspath(Path(path).expanduser()))


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")
    )


def _folder() -> Any:
    packaged = resources.files("glass_export") / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "recipes"


def resolve(model: str, overrides: list[str] | None = None) -> Recipe:
    """The recipe that ``--model`` means, with ``--set`` overrides applied.

    Args:
        model: A recipe's name, a path to a recipe .toml, a local folder with a Hugging Face model,
            a .gguf file, or a hub id such as ``Qwen/Qwen2.5-Coder-0.5B-Instruct``. Tried in this
            order.
        overrides: ``section.key=value``; the value is TOML, a bare word is a string.

    Raises:
        RecipeError: no such recipe, file or folder; unknown or ill-typed key.
    """
    data, where = _raw(model)
    for item in overrides or []:
        _apply(data, item)
    return from_data(Recipe, data, error=RecipeError, where=where)


def load(path: Path) -> Recipe:
    """Read a recipe file. Raises RecipeError when it cannot be read or is not a recipe."""
    return resolve(str(path))


def _raw(model: str) -> tuple[dict[str, Any], str]:
    if model in recipe_names():
        return _parse((_folder() / f"{model}.toml").read_text("utf-8"), model), f"recipe {model}"
    path = Path(model).expanduser()
    if path.suffix == ".toml":
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            reason = "no such file" if isinstance(problem, FileNotFoundError) else problem
            raise RecipeError(f"recipe {model}: {reason}; give a readable .toml file") from problem
        return _parse(text, model), f"recipe {path.name}"
    if (model and path.is_dir()) or path.suffix == ".gguf":
        if not path.exists():
            raise RecipeError(f"model {model}: no such file; give a .gguf file that exists")
        name = path.resolve().name.removesuffix(".gguf")
        return _adhoc(name, {"kind": "local", "path": str(path)}), f"model {model}"
    repo, _, revision = model.partition("@")
    if _HUB_ID.fullmatch(repo):
        source: dict[str, Any] = {"kind": "hub", "repo": repo}
        if revision:
            source["revision"] = revision
        return _adhoc(repo.split("/")[1], source), f"model {model}"
    raise RecipeError(
        f"model {model!r}: not a recipe ({suggest(model, recipe_names())}), not a folder, "
        "not a .gguf file and not a hub id (owner/name); see `glass-export recipes`"
    )


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def _adhoc(name: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"name": name, "sources": [source]}}


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(f"recipe {name}: not valid TOML: {problem}") from problem


def _apply(data: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(
            f"--set {item!r}: expected section.key=value, such as --set export.max_length=1024"
        )
    for part in path[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise RecipeError(f"--set {item!r}: {part!r} is not a section")
    try:
        data[path[-1]] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        data[path[-1]] = value.strip()
