"""What a target is: a module that turns captured graphs into files a runtime loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glass_export.graph import CapturedGraph
from glass_export.manifest import TargetInfo
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
