"""The look of charts: colours, and axes without clutter. matplotlib is imported by nobody here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

COLOURS = ("#0b6e99", "#d9730d", "#4d8b31", "#9065b0", "#c4554d", "#7a6652")
MORE_COLOURS = ("#1aa08d", "#b8860b", "#3b4a6b", "#e07aa3", "#8a8f2a", "#555555")
INK, FAINT = "#2b2b2b", "#d8d8d8"


def is_installed() -> bool:
    """Whether matplotlib, of the extra ``bench``, is there."""
    return find_spec("matplotlib") is not None


def dress(axes: Any) -> None:
    """Give matplotlib's axes the common look: a light grid, no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
