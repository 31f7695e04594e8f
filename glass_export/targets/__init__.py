"""Targets: one module (or package) per runtime that an artifact can be made for."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, cast

from glass_export.errors import RecipeError
from glass_export.log import third_party_silence
from glass_export.schema import choices

if TYPE_CHECKING:
    from glass_export.targets.base import Target


_SHARED = ("base", "integer", "rounding")
"""Modules of this package that are no targets."""


def known_targets() -> list[str]:
    """Names of the targets that ``--target`` accepts."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED)


def check_target(name: str) -> None:
    """Raise RecipeError, listing the known targets, when there is none called ``name``."""
    known = known_targets()
    if name not in known:
        raise RecipeError(f"target {name!r} does not exist; {choices(name, known)}")


def load_target(name: str) -> Target:
    """The target called ``name``. Raises RecipeError when there is none."""
    check_target(name)
    with third_party_silence():
        return cast("Target", importlib.import_module(f"{__name__}.{name}"))
