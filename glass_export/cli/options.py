"""Values of options that take several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

T = TypeVar("T")


def values(option: str, text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """The numbers in ``text``, joined by commas; ``parse`` is float or int.

    Raises:
        typer.BadParameter: a part is not such a number.
    """
    try:
        return tuple(parse(part) for part in text.split(","))
    except ValueError as problem:
        kind = "whole numbers" if parse is int else "numbers"
        raise typer.BadParameter(
            f"{option} {text!r}: expected {kind} joined by commas"
        ) from problem
