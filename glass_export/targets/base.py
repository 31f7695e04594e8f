"""What a target is: a module that turns captured graphs into files a runtime loads."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

import glass_export.targets
from glass_export.errors import RecipeError
from glass_export.graph import CapturedGraph
from glass_export.manifest import TargetInfo
from glass_export.schema import suggest
from glass_export.spec import FfnSite, Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweringInput:
    """Everything a target needs besides its options. ``prior``: statistics, each [L,F]."""

    prefill: CapturedGraph
    decode: CapturedGraph
    sites: tuple[FfnSite, ...]
    prior: Mapping[Statistic, NDArray[np.float32]]
    prefill_chunk: int


class Target(Protocol):
    """A target module: ``glass_export.targets.<name>``."""

    def lower(self, source: LoweringInput, folder: Path) -> TargetInfo:
        """Write the target's files into ``folder`` and describe them.

        Raises:
            LoweringError: an operator has no counterpart in the target.
        """
        ...


def known_targets() -> list[str]:
    """Names of the targets that ``--target`` accepts."""
    modules = pkgutil.iter_modules(glass_export.targets.__path__)
    return sorted(m.name for m in modules if m.name != "base")


def load_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        RecipeError: there is none; the message lists the known ones.
    """
    known = known_targets()
    if name not in known:
        raise RecipeError(
            f"target {name!r} is not known ({suggest(name, known)}); targets: {', '.join(known)}"
        )
    return cast(Target, importlib.import_module(f"glass_export.targets.{name}"))
