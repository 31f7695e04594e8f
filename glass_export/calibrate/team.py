"""Processes that calibrate one model together, as ``torchrun`` or ``accelerate launch`` start them.

The first process, the leader, exports; the others only help to calibrate. They are handed pieces
whose results do not depend on how many processes there are: whole rounds of text, and sums over
runs of sequences that the leader adds up in one order. So the prior is the same bit for bit as that
of a single process, given the same threads and kind of processor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch.distributed as dist

from glass_export.errors import CalibrationError

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""How long helpers wait for work: as long as the leader takes for all other stages."""


@dataclass(frozen=True, slots=True)
class Team:
    """``rank``: of this process, 0 is the leader; ``size``: number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process exports."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """The leader's value, for all. Raises CalibrationError when one of them is gone."""
        if self.size == 1:
            return value
        box = [value]
        with _together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, value: T) -> list[T]:
        """Every process's value in the order of their ranks, for all; errors as share."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(values, value)
        return values


ALONE = Team()


@contextmanager
def _together() -> Iterator[None]:
    """Turn the end of another process into a CalibrationError."""
    try:
        yield
    except RuntimeError as problem:  # torch.distributed has no closer one for a lost connection
        raise CalibrationError(
            "calibration: another process of the team has ended, or cannot be reached any more "
            f"({str(problem).splitlines()[0]}); start all of them again, which goes on with what "
            "is kept"
        ) from problem


@cache
def current() -> Team:
    """The team that this process belongs to, joined on the first call; see the module."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return ALONE
    dist.init_process_group("gloo", timeout=_PATIENCE)
    return Team(dist.get_rank(), size)


def local_rank() -> int:
    """Number of this process among those of the team on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def neighbours() -> int:
    """Processes of the team on this machine, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
