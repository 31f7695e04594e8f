"""Strict conversion between plain data (TOML, JSON) and frozen dataclasses.

No coercion: ``"3"`` is not an int and ``1`` is a float only where a float is asked for. An unknown
key is an error that suggests the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, Literal, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn

from glass_export.errors import GlassError

T = TypeVar("T")


def suggest(word: str, known: list[str]) -> str:
    """A clause naming the nearest of ``known``, or all of them when none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def choices(word: str, known: list[str]) -> str:
    """All of ``known``, after a suggestion when one is near."""
    hint = suggest(word, known)
    return hint if hint.startswith("known") else f"{hint} known: {', '.join(sorted(known))}"


def _strict(kind: type, accepted: tuple[type, ...]) -> Any:
    def hook(value: Any, _: type) -> Any:
        if (isinstance(value, bool) and kind is not bool) or not isinstance(value, accepted):
            raise TypeError(f"got {value!r}, expected {kind.__name__}")
        return kind(value)

    return hook


def _strict_tuple(value: Any, kind: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"got {value!r}, expected a list")
    items = []
    for index, item in enumerate(value):
        try:
            items.append(_converter.structure(item, kind.__args__[0]))
        except Exception as problem:
            raise _ItemError(index, problem) from problem
    return tuple(items)


class _ItemError(Exception):
    """Something is wrong with one item of a list."""

    def __init__(self, index: int, problem: Exception) -> None:
        super().__init__(index, problem)
        self.index, self.problem = index, problem


def _strict_literal(value: Any, kind: Any) -> Any:
    if value not in kind.__args__:
        raise TypeError(f"got {value!r}, expected one of {', '.join(map(repr, kind.__args__))}")
    return value


def _int_or_str(value: Any, _: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"got {value!r}, expected an int or a string")
    return value


def _strict_table(cls: type) -> Any:
    generated: Any = make_dict_structure_fn(cls, _converter)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"got {value!r}, expected a table for {cls.__name__}")
        return generated(value, _)

    return hook


_converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
for _kind, _accepted in ((str, (str,)), (int, (int,)), (float, (int, float)), (bool, (bool,))):
    _converter.register_structure_hook(_kind, _strict(_kind, _accepted))
_converter.register_structure_hook_func(
    lambda t: getattr(t, "__origin__", None) is tuple and t.__args__[-1] is ..., _strict_tuple
)
_converter.register_structure_hook_func(
    lambda t: getattr(t, "__origin__", None) is Literal, _strict_literal
)
_converter.register_structure_hook_func(lambda t: t == (int | str), _int_or_str)
_converter.register_structure_hook_factory(dataclasses.is_dataclass, _strict_table)


def _describe(error: BaseException, where: str) -> str:
    if isinstance(error, GlassError):
        return str(error)  # it names the key itself
    if isinstance(error, _ItemError):
        return _describe(error.problem, f"{where}[{error.index}]")
    if isinstance(error, cattrs.errors.BaseValidationError):
        # An unknown key first: it may be the misspelt name of one that is missing.
        unknown = [e for e in error.exceptions if isinstance(e, cattrs.ForbiddenExtraKeysError)]
        child = (unknown or error.exceptions)[0]
        notes = [n for n in getattr(child, "__notes__", []) if hasattr(n, "name")]
        name = notes[0].name if notes else ""
        return _describe(child, f"{where}.{name}" if name and where else name or where)
    prefix = f"{where}: " if where else ""
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        key = sorted(error.extra_fields)[0]
        known = [f.name for f in dataclasses.fields(error.cl)]
        return f"{prefix}unknown key {key!r}; {suggest(key, known)}"
    if isinstance(error, KeyError):
        return f"{where}: missing, expected a value"
    return f"{prefix}{error}"


def from_data(cls: type[T], data: Any, *, error: type[GlassError], where: str) -> T:
    """Build the dataclass ``cls`` from plain data.

    Args:
        cls: A dataclass; nested dataclasses, ``tuple[X, ...]``, ``dict``, ``Literal`` and
            ``X | None`` are understood.
        data: What a TOML or JSON parser returned.
        error: Class of the error to raise.
        where: Name of the document, put in front of the message.

    Raises:
        error: unknown key, missing key, or a value of another type.
    """
    try:
        return _converter.structure(data, cls)
    except GlassError:
        raise
    except Exception as problem:
        raise error(f"{where}: {_describe(problem, '')}") from problem


def to_data(value: Any) -> Any:
    """Plain dicts, lists and scalars for a dataclass; None stays None."""
    return _converter.unstructure(value)
