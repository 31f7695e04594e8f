"""Keeps calibrations, finished or not, so that a killed run goes on where it was.

``<folder>/<key>/``: ``text.safetensors`` grows round by round, ``sums-*.safetensors`` hold partial
sums, ``prior.safetensors`` is the finished prior. A damaged file counts as missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from glass_export.errors import ArtifactError
from glass_export.log import logger
from glass_export.paths import is_kept
from glass_export.prior import Prior, read_tensors, write_tensors

T = TypeVar("T")

Sequence = NDArray[np.int32]
"""Tokens [T] of one sequence, without the begin-of-text token."""


@dataclass(frozen=True, slots=True)
class PartialSums:
    """Sums over the first ``done`` sequences, run by run. Shape: values [R,4,L,F], float64."""

    values: NDArray[np.float64]
    done: int


class CalibrationCache:
    """The cached state of one calibration.

    Args:
        folder: Where calibrations are kept; None keeps nothing.
        key: All that the result depends on, as plain data.
    """

    def __init__(self, folder: Path | None, key: dict[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._folder = folder / name if folder else None

    def load_prior(self) -> Prior | None:
        """The finished prior, if there is one."""
        return self._load("prior", Prior.load)

    def save_prior(self, prior: Prior) -> None:
        """Keep the finished prior; partial sums are of no use any more."""
        self._save("prior", prior.save)
        if self._folder:
            with suppress(OSError):
                for path in self._folder.glob("sums-*"):
                    path.unlink()

    def load_text(self) -> list[list[Sequence]]:
        """Sequences of every finished round."""
        found = self._load("text", read_tensors)
        if found is None:
            return []
        tokens, lengths, rounds = (found[0][name] for name in ("tokens", "lengths", "rounds"))
        sequences = np.split(tokens, np.cumsum(lengths)[:-1])
        ends = np.cumsum(rounds).tolist()
        return [sequences[end - n : end] for n, end in zip(rounds.tolist(), ends, strict=True)]

    def save_text(self, rounds: list[list[Sequence]]) -> None:
        """Keep all rounds so far."""
        sequences = [sequence for part in rounds for sequence in part]
        tensors = {
            "tokens": np.concatenate(sequences),
            "lengths": np.array([len(s) for s in sequences], np.int32),
            "rounds": np.array([len(part) for part in rounds], np.int32),
        }
        self._save("text", lambda path: write_tensors(path, tensors, {}))

    def load_sums(
        self, shape: tuple[int, ...], sequences: list[Sequence], part: str
    ) -> PartialSums:
        """The latest partial sums of these sequences; zeros when there are none.

        ``part``: which of several processes' sums.
        """
        found = self._load(f"sums-{part}", read_tensors)
        if found is None or found[1].get("text") != _digest(sequences):
            return PartialSums(np.zeros(shape), 0)
        return PartialSums(found[0]["sums"], int(found[1]["done"]))

    def save_sums(self, partial: PartialSums, sequences: list[Sequence], part: str) -> None:
        """Keep sums over the first sequences; ``part``: as in ``load_sums``."""
        metadata = {"done": str(partial.done), "text": _digest(sequences)}
        self._save(
            f"sums-{part}", lambda path: write_tensors(path, {"sums": partial.values}, metadata)
        )

    def _load(self, name: str, read: Callable[[Path], T]) -> T | None:
        path = self._folder / f"{name}.safetensors" if self._folder else None
        if path is None or not is_kept(path):
            return None
        try:
            return read(path)
        except ArtifactError as problem:
            logger.warning("calibration cache: %s; ignored, it is computed again", problem)
            return None

    def _save(self, name: str, write: Callable[[Path], None]) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write(self._folder / f"{name}.safetensors")
        except OSError as problem:
            logger.warning(
                "calibration cache: cannot write %s (%s); going on without", name, problem
            )


def _digest(sequences: list[Sequence]) -> str:
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(len(sequence).to_bytes(4, "little") + sequence.tobytes())
    return digest.hexdigest()
