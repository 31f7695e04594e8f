"""A model that is already on this machine: a Hugging Face folder or a .gguf file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from glass_export.errors import SourceError
from glass_export.manifest import SourceInfo
from glass_export.recipe import Source
from glass_export.sources.base import FetchedModel, Unavailable, file_sha256

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def fetch(source: Source) -> FetchedModel:
    """Use the model at ``source.path``.

    Raises:
        Unavailable: nothing is there.
        SourceError: what is there is not a model, or not a complete one.
    """
    path = locate(source)
    if path.is_dir():
        return folder(path, kind="local", reference=path.resolve().name)
    info = SourceInfo(kind="local", reference=path.name, sha256=file_sha256(path))
    return FetchedModel(path, info)


def locate(source: Source) -> Path:
    """The model at ``source.path``, unopened; errors as :func:`fetch`."""
    path = Path(source.path).expanduser()
    if not path.exists():
        raise Unavailable("no such file or folder")
    if path.is_dir():
        weight_files(path)
    elif path.suffix.lower() != ".gguf":
        raise SourceError(
            f"{path}: expected a Hugging Face folder or a .gguf file; give one of the two"
        )
    return path


def folder(path: Path, *, kind: str, reference: str) -> FetchedModel:
    """Use a Hugging Face folder; its hash covers all that makes the model: weights, configuration,
    tokenizer and chat template.

    Raises:
        SourceError: config, weights or one of several weight files are missing.
    """
    digest = hashlib.sha256()
    for file in (*weight_files(path), *sorted(path.glob("*.json")), *sorted(path.glob("*.jinja"))):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return FetchedModel(path, SourceInfo(kind=kind, reference=reference, sha256=digest.hexdigest()))


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a Hugging Face folder, by name.

    Raises:
        SourceError: config, weights or one of several weight files are missing.
    """
    if not (path / "config.json").is_file():
        hint = next(path.glob("*.gguf"), None)
        raise SourceError(
            f"{path}: no config.json, so this is not a Hugging Face model folder; "
            + (f"give the file itself: {hint}" if hint else "give the folder that holds it")
        )
    names = _indexed(path) if (path / _INDEX).is_file() else {"model.safetensors"}
    files = [path / name for name in sorted(names)]
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    if (path / _INDEX).is_file():
        raise SourceError(
            f"{path}: {len(missing)} of {len(files)} weight files are missing "
            f"({', '.join(missing[:3])}); download the model again"
        )
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    raise SourceError(
        f"{path}: no model.safetensors"
        + (
            f", only pickled weights ({', '.join(pickles[:3])}), which can run code and are never "
            "opened here; convert them with transformers' save_pretrained"
            if pickles
            else "; give a folder with safetensors weights, or a .gguf file"
        )
    )


def _indexed(path: Path) -> set[str]:
    try:
        names = set(json.loads((path / _INDEX).read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SourceError(
            f"{path / _INDEX}: not a safetensors index ({problem!r}); download the model again"
        ) from problem
    for name in names:
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name:
            raise SourceError(
                f"{path / _INDEX}: names {name!r}, expected safetensors files of the same folder; "
                "download the model again"
            )
    return names
