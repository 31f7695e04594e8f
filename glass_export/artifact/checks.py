"""What a manifest says must be possible: every check that needs no look at the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path

from glass_export import limits
from glass_export.errors import ArtifactCode, ArtifactError
from glass_export.manifest import Manifest, TensorEntry

PRIOR_NAME = "prior.safetensors"
TOKENIZER_NAME = "tokenizer.json"
ITEM_BITS = {
    "float32": 32, "float16": 16, "bfloat16": 16, "int64": 64, "int32": 32, "int16": 16,
    "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "bool": 8,
}  # fmt: skip
AGAIN = "copy or export the artifact again"

_MOST_BYTES = {
    PRIOR_NAME: limits.PRIOR_BYTES,
    TOKENIZER_NAME: limits.TOKENIZER_BYTES,
    "tokenizer_config.json": limits.CONFIG_BYTES,
    "chat_template.jinja": limits.TEMPLATE_BYTES,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_PATH = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")


def check_manifest(manifest: Manifest, where: Path) -> None:
    """Check every statement of the manifest that needs no look at the files.

    Raises:
        ArtifactError: TOO_LARGE, PATH, MANIFEST or TENSOR; ``where`` is put in front of messages.
    """
    target = manifest.target
    sizes = {entry.path: entry.size for entry in manifest.files}
    if len(manifest.files) > limits.FILES:
        raise ArtifactError(
            f"{where}: {len(manifest.files)} files are listed, at most {limits.FILES} are read",
            ArtifactCode.TOO_LARGE,
        )
    for entry in manifest.files:
        if entry.size > (most := _MOST_BYTES.get(entry.path, entry.size)):
            raise ArtifactError(
                f"{where}: {entry.path} has {entry.size} bytes, at most {most} are read",
                ArtifactCode.TOO_LARGE,
            )
    code = ArtifactCode.PATH
    problem = _path_problem([entry.path for entry in manifest.files])
    if not problem:
        code = ArtifactCode.MANIFEST
        problem = _model_problem(manifest) or _files_problem(manifest, sizes)
    if not problem:
        code = ArtifactCode.TENSOR
        problem = _tensor_problem(target.tensors, sizes.get(target.weights or "", 0))
    if not problem and manifest.selection.prior not in manifest.prior.statistics:
        code = ArtifactCode.MANIFEST
        problem = f"selection.prior is {manifest.selection.prior!r}, not among prior.statistics"
    if problem:
        raise ArtifactError(f"{where}: {problem}; {AGAIN}", code)


def _path_problem(paths: list[str]) -> str | None:
    seen: set[str] = set()
    for path in paths:
        if len(path) > limits.PATH_BYTES or not _SAFE_PATH.fullmatch(path):
            return f"file path {path[:60]!r} is not a plain relative path inside the artifact"
        if path.casefold() in seen:
            return f"file {path!r} is listed twice"
        seen.add(path.casefold())
    return None


def _files_problem(manifest: Manifest, sizes: Mapping[str, int]) -> str | None:
    target = manifest.target
    for entry in manifest.files:
        if entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
            return f"file {entry.path!r} has no size or no SHA-256"
    if missing := {"prefill", "decode"} - set(target.graphs):
        return f"target.graphs.{min(missing)} is missing"
    used = [
        PRIOR_NAME, TOKENIZER_NAME, *target.graphs.values(),
        *([] if target.weights is None else [target.weights]),
    ]  # fmt: skip
    return next(
        (f"{name[:60]!r} is used but not in files" for name in used if name not in sizes), None
    )


def _model_problem(manifest: Manifest) -> str | None:
    model, chunk = manifest.model, manifest.target.prefill_chunk
    dims = model.dims
    sizes = (*astuple(replace(dims, expert_rows=1)), model.max_length, chunk)
    if min(sizes) < 1 or dims.expert_rows < 0:
        return (
            "model.dims, max_length and target.prefill_chunk have to be positive, got "
            f"{dims}, {model.max_length}, {chunk}"
        )
    if max(*sizes, dims.expert_rows) > limits.SIZE:
        return f"a size is above {limits.SIZE}, got {dims}, {model.max_length}, {chunk}"
    if dims.heads % dims.kv_heads:
        return f"heads ({dims.heads}) is not a multiple of kv_heads ({dims.kv_heads})"
    special = [*model.eos_token_ids, *([] if model.bos_token_id is None else [model.bos_token_id])]
    if wrong := [token for token in special if not 0 <= token < dims.vocab_size]:
        return f"token id {wrong[0]} is outside the vocabulary of {dims.vocab_size}"
    return None


def _tensor_problem(tensors: Iterable[TensorEntry], size: int) -> str | None:
    """What is wrong with the places of tensors in a weights file of ``size`` bytes."""
    names: set[str] = set()
    places = []
    for tensor in tensors:
        label = f"tensor {tensor.name[:60]!r}"
        if tensor.name in names:
            return f"{label} is listed twice"
        names.add(tensor.name)
        if tensor.dtype not in ITEM_BITS:
            return f"{label}: unknown dtype {tensor.dtype[:60]!r}, known: {', '.join(ITEM_BITS)}"
        if min(tensor.shape, default=1) < 0 or _bytes_of(tensor) != tensor.nbytes:
            return (
                f"{label}: nbytes is {tensor.nbytes}, its shape and dtype need {_bytes_of(tensor)}"
            )
        if tensor.offset < 0 or tensor.offset + tensor.nbytes > size:
            return (
                f"{label}: bytes {tensor.offset}+{tensor.nbytes} are outside the file of {size} "
                "bytes"
            )
        if tensor.nbytes:
            places.append((tensor.offset, tensor.offset + tensor.nbytes))
    # The same bytes may be known by two names, such as a head that is the embedding, too.
    for (_, end), (start, _) in pairwise(sorted(set(places))):
        if start < end:
            return f"tensors: two of them overlap at byte {start}"
    return None


def _bytes_of(tensor: TensorEntry) -> int:
    """What its shape and dtype need; -1 when that is more than int64 holds."""
    count = 0 if 0 in tensor.shape else 1
    for extent in tensor.shape:
        count *= extent
        if count >= 2**63:
            return -1
    needed = -(-count * ITEM_BITS[tensor.dtype] // 8)
    return needed if needed < 2**60 else -1
