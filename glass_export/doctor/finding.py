"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        group: Heading that it belongs under.
        name: What was looked at.
        value: What was found, for people.
        state: ``problem``: something needed is missing or broken; ``note``: something is missing
            that not everyone needs.
        fix: What to do, one line; empty when there is nothing to do.
        size: In bytes, where the value is one.
    """

    group: str
    name: str
    value: str
    state: State = "ok"
    fix: str = ""
    size: int | None = None
