"""JSON of strangers: what other parsers might read otherwise is refused.

As ``csrc/driver/json.cpp``.
"""

from __future__ import annotations

import json
import math
from typing import Any

from glass_export import limits
from glass_export.errors import ArtifactCode, ArtifactError

_MOST_WHOLE = 2**63


def parse(content: bytes, where: str, *, wide: bool = False) -> Any:
    """What a JSON text says.

    Args:
        content: UTF-8, without a byte order mark.
        where: Name of the document, put in front of messages.
        wide: For files of Hugging Face: whole numbers may be larger than int64 holds, as 10^30
            stands there for no limit, and there may be more values than limits.JSON_ITEMS.

    Raises:
        ArtifactError: ENCODING; JSON: not JSON, a key given twice, or a number that float64, or of
            whole ones int64, does not hold; TOO_LARGE: nested deeper than limits.JSON_DEPTH,
            or of too many values.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as problem:
        code = ArtifactCode.ENCODING
        raise ArtifactError(f"{where}: not UTF-8 text ({problem})", code) from problem
    try:
        data = json.loads(
            text, object_pairs_hook=_object, parse_int=_real if wide else _whole, parse_float=_real,
            parse_constant=_refuse,
        )  # fmt: skip
        json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except RecursionError as problem:
        raise _too_deep(where) from problem
    except ValueError as problem:
        code = ArtifactCode.JSON
        raise ArtifactError(f"{where}: not valid JSON: {problem}", code) from problem
    depth, items = _measure(data)
    if depth > limits.JSON_DEPTH:
        raise _too_deep(where)
    if items > limits.JSON_ITEMS and not wide:
        raise ArtifactError(
            f"{where}: {items} values, at most {limits.JSON_ITEMS} are read", ArtifactCode.TOO_LARGE
        )
    return data


def _too_deep(where: str) -> ArtifactError:
    return ArtifactError(
        f"{where}: more than {limits.JSON_DEPTH} lists and objects inside each other",
        ArtifactCode.TOO_LARGE,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} is given twice")
    return made


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -_MOST_WHOLE <= int(digits) < _MOST_WHOLE:
        raise ValueError(f"the number {digits[:60]} is too large")
    return int(digits)


def _real(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"the number {digits[:60]} is too large")
    return number


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _measure(data: Any) -> tuple[int, int]:
    """Lists and objects inside each other, and values in all."""
    depth, items, level = 0, 1, [data]
    while level := [item for item in level if isinstance(item, (list, dict))]:
        depth += 1
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
        items += len(level)
    return depth, items
