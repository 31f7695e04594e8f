"""A model on the Hugging Face hub: safetensors, configuration and tokenizer, nothing else."""

from __future__ import annotations

import os
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from glass_export.errors import SourceError
from glass_export.log import Task, logger, progress
from glass_export.recipe import Source
from glass_export.sources.base import FetchedModel, Unavailable
from glass_export.sources.local import folder, weight_files

_ALLOWED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]
_DESCRIPTION = ["config.json"]
_IGNORED = ["*/*", "consolidated*"]
_PATIENCE = 3.0
"""Seconds to wait for the hub's first answer before the next source is tried."""


def fetch(source: Source) -> FetchedModel:
    """Download ``source.repo``, or use what the local Hugging Face cache already holds.

    The hub is asked once, briefly and without retries; when it does not answer, or when
    HF_HUB_OFFLINE is set, only a complete snapshot in the cache counts.

    Raises:
        Unavailable: hub out of reach and model not in the cache, no such repository or revision,
            gated without permission, or no safetensors weights.
        SourceError: the downloaded model is damaged or the disk is full.
    """
    path = _reach(source, _ALLOWED)
    return folder(path, kind="hub", reference=f"{source.repo}@{path.name}")


def locate(source: Source) -> Path:
    """The local copy of ``source.repo``, or a folder with its configuration alone.

    Raises:
        Unavailable: as :func:`fetch`.
        SourceError: the disk is full.
    """
    return _cached(source) or _reach(source, _DESCRIPTION)


def _reach(source: Source, patterns: list[str]) -> Path:
    """A folder with the files of ``patterns``, or a complete one from the local cache."""
    try:
        from huggingface_hub import constants
    except ImportError as problem:
        raise Unavailable(f"{problem}; install glass-export[export]") from problem
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            return _online(source, patterns)
        except _OutOfReach as problem:
            reason = str(problem)
    path = _cached(source)
    if path is None:
        raise Unavailable(f"{reason}, and the model is not in the local Hugging Face cache")
    logger.info("%s: %s; using the local Hugging Face cache", source.repo, reason)
    return path


class _OutOfReach(Exception):
    """The hub does not answer."""


def _online(source: Source, patterns: list[str]) -> Path:
    from huggingface_hub import HfApi, constants, errors

    page = f"{constants.ENDPOINT}/{source.repo}"
    try:
        found = HfApi().model_info(source.repo, revision=source.revision, timeout=_PATIENCE)
    except errors.GatedRepoError as problem:
        raise Unavailable(_gated(page)) from problem
    except errors.RepositoryNotFoundError as problem:
        raise Unavailable(
            "no such repository, or a private one (set HF_TOKEN to a token that may read it)"
        ) from problem
    except errors.RevisionNotFoundError as problem:
        raise Unavailable(f"no revision {source.revision!r}; see {page}") from problem
    except errors.HFValidationError as problem:
        raise Unavailable(f"not a valid repository id: {problem}") from problem
    except Exception as problem:  # the transport's own errors differ between its versions
        raise _OutOfReach(f"the hub cannot be reached ({_first_line(problem)})") from problem
    names = [file.rfilename for file in found.siblings or []]
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise Unavailable("it has no safetensors weights; pickled ones are never opened")
    return _download(source, page, patterns)


def _download(source: Source, page: str, patterns: list[str]) -> Path:
    """Download a snapshot; its folder is named after the commit."""
    from huggingface_hub import errors, snapshot_download

    with progress(f"Downloading {source.repo}", None, "bytes") as task:
        try:
            return Path(
                snapshot_download(
                    source.repo,
                    revision=source.revision,
                    allow_patterns=patterns,
                    ignore_patterns=_IGNORED,
                    etag_timeout=_PATIENCE,
                    tqdm_class=_bar(task),
                )
            )
        except errors.GatedRepoError as problem:
            raise Unavailable(_gated(page)) from problem
        except OSError as problem:
            if problem.errno in (ENOSPC, EDQUOT):
                raise SourceError(
                    f"{source.repo}: the disk is full; free some space, or set HF_HOME to a "
                    "folder on another disk"
                ) from problem
            raise _OutOfReach(f"the download broke off ({_first_line(problem)})") from problem
        except Exception as problem:  # as above
            raise _OutOfReach(f"the download broke off ({_first_line(problem)})") from problem


def _cached(source: Source) -> Path | None:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        return None
    try:
        path = Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                allow_patterns=_ALLOWED,
                ignore_patterns=_IGNORED,
                local_files_only=True,
            )
        )
        weight_files(path)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, SourceError):
        return None
    return path


def _bar(task: Task) -> Any:
    """A tqdm class that draws nothing and reports received bytes to ``task``."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # it has no types

    class Bar(tqdm):  # type: ignore[misc]  # for the same reason
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = "Reconstructing" in str(kwargs.get("desc", ""))
            kwargs.pop("name", None)
            with open(os.devnull, "w") as nowhere:
                super().__init__(*args, **kwargs | {"file": nowhere, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                task.advance(n or 0)
            return None

    return Bar


def _gated(page: str) -> str:
    return (
        f"access is restricted: accept the terms at {page} and set HF_TOKEN to a token of that "
        "account (https://huggingface.co/settings/tokens)"
    )


def _first_line(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
