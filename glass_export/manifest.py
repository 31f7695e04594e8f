"""The manifest ``glass.json``: what an artifact holds, how it was made and how it was checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from glass_export import strict_json
from glass_export.errors import ArtifactCode, ArtifactError, GlassError
from glass_export.recipe import SelectionRecipe
from glass_export.schema import from_data, to_data
from glass_export.selection import Profile
from glass_export.spec import Activation, GraphSignature, ModelDims, NullStart, Statistic

SCHEMA_VERSION = 1
MANIFEST_NAME = "glass.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of the artifact; ``path`` is relative, with forward slashes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """Where the weights came from: kind of the source, what it names, and a hash of the weights."""

    kind: str
    reference: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """The model, as far as a runtime has to know it."""

    name: str
    family: str
    source: SourceInfo
    dims: ModelDims
    activation: Activation
    max_length: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorInfo:
    """How the global prior was measured."""

    statistics: tuple[Statistic, ...]
    tokens: int
    seed: int
    temperature: float
    text: NullStart = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRule:
    """A rule that a recipe search measured: KL to the dense model per token (nats), mean over texts
    and standard error; ``text``: what its prior was measured on.
    """

    rule: str
    text: NullStart
    kl: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchInfo:
    """How the rule of an artifact was found.

    ``texts`` and ``steps``: held-out texts of the model itself, and decode steps of all of them;
    ``density``: at which rules were compared; ``layer_kl``: KL with one layer sparse alone [L];
    ``rules``: all that were compared, the best first; ``seconds``: what the search took, of old
    artifacts; 0 since equal exports are equal byte for byte.
    """

    density: float
    texts: int
    steps: int
    layer_kl: tuple[float, ...]
    rules: tuple[JudgedRule, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where a weight lies in the weights file: byte offset and length."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInfo:
    """The compiled part: runtime, number format, files and their signatures.

    ``dtype`` is the format of the linears outside the FFNs, ``ffn_dtype`` that of the FFN weights;
    ``custom_ops`` says whether the project's own operators are needed to run it.
    """

    name: str
    dtype: str
    prefill_chunk: int
    graphs: dict[str, str]
    signatures: dict[str, GraphSignature]
    weights: str | None
    tensors: tuple[TensorEntry, ...]
    ffn_dtype: str = "fp32"
    custom_ops: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Content of glass.json. ``profiles``: by name, see :class:`.Profile`."""

    schema_version: int
    model: ModelInfo
    target: TargetInfo
    selection: SelectionRecipe
    prior: PriorInfo
    recipe: dict[str, Any]
    recipe_digest: str
    tools: dict[str, str]
    verification: dict[str, Any] | None
    files: tuple[FileEntry, ...]
    search: SearchInfo | None = None
    profiles: dict[str, Profile] = field(default_factory=dict)

    def to_json(self) -> str:
        """The manifest as indented JSON with a final newline."""
        return json.dumps(to_data(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes) -> Manifest:
        """Parse glass.json.

        Raises:
            ArtifactError: not JSON, of another schema, or not a manifest.
        """
        raw = content.encode() if isinstance(content, str) else content
        data = strict_json.parse(raw, MANIFEST_NAME)
        if not isinstance(data, dict):
            raise ArtifactError(f"{MANIFEST_NAME}: not a JSON object", ArtifactCode.JSON)
        _check_version(data.get("schema_version"))
        try:
            return from_data(cls, data, error=ArtifactError, where=MANIFEST_NAME)
        except GlassError as problem:
            raise ArtifactError(str(problem), ArtifactCode.MANIFEST) from problem


def _check_version(version: object) -> None:
    if type(version) is not int:
        raise ArtifactError(
            f"{MANIFEST_NAME}: no schema_version; this is not a glass-export artifact",
            ArtifactCode.SCHEMA,
        )
    if version != SCHEMA_VERSION:
        remedy = (
            "update glass-export"
            if version > SCHEMA_VERSION
            else "export the model again with this version"
        )
        raise ArtifactError(
            f"{MANIFEST_NAME}: schema_version is {version}, this program reads {SCHEMA_VERSION}; "
            f"{remedy}",
            ArtifactCode.SCHEMA,
        )
