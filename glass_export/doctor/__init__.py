"""What is installed and built here, and what is missing. Needs no package but the core ones."""

from __future__ import annotations

from glass_export.doctor import machine, packages, runtimes
from glass_export.doctor.finding import Finding, State

__all__ = ["Finding", "State", "examine"]


def examine(*, full: bool = False) -> list[Finding]:
    """Everything that can be told within a second or two, grouped.

    Args:
        full: Open ExecuTorch as well, which takes seconds.
    """
    return [
        *machine.examine(),
        *packages.examine(),
        *runtimes.examine(full=full),
        *machine.caches(),
    ]
