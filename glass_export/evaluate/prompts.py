"""Prompts to evaluate on: two built-in sets, and files of the user's own.

The built-in sets were written for this project and share no topic: a recipe chosen on ``tuning``
is reported on ``reporting``. Both have the same number of prompts in six domains (chat, summary,
code, reasoning, lists, languages), which take turns, so that the first n of a set are balanced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from glass_export.errors import EvaluationError
from glass_export.schema import from_data, suggest, to_data

PROMPT_SETS = ("tuning", "reporting")
OTHER_DOMAIN = "other"  # of prompts that name none


@dataclass(frozen=True, slots=True)
class EvalPrompt:
    """A user's request, without a chat template, and the kind of request that it is."""

    text: str
    domain: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prompt as .jsonl and .json files spell it."""

    prompt: str
    domain: str = OTHER_DOMAIN


def load_prompts(name_or_path: str) -> tuple[EvalPrompt, ...]:
    """The prompts of a built-in set or of a file, in their order; at least one.

    Args:
        name_or_path: One of ``PROMPT_SETS``, which come before files of the same name, or a path to

            - .jsonl: an object ``{"prompt": "...", "domain": "..."}`` a line; ``domain`` may be
              left out, blank lines are skipped;
            - .json: a list of such objects, or of strings;
            - .txt: one prompt a line; blank lines are skipped.

            Files are UTF-8, with or without a byte order mark.

    Raises:
        EvaluationError: no such set or file, another type of file, not UTF-8, not JSON, an entry
            that is not a prompt, or no prompt at all.
    """
    if name_or_path in PROMPT_SETS:
        source = files("glass_export.evaluate") / "prompt_sets" / f"{name_or_path}.jsonl"
        return _from_jsonl(source.read_text("utf-8"), f"prompt set {name_or_path}")
    path = Path(name_or_path).expanduser()
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise _unknown(name_or_path, path)
    prompts = parse(_read(path), str(path))
    if not prompts:
        raise EvaluationError(f"{path}: got no prompt, expected at least one; add one")
    return prompts


def digest(prompts: Sequence[EvalPrompt]) -> str:
    """SHA-256 of texts, domains and order, in hex; the format of the file does not enter."""
    canonical = json.dumps([to_data(p) for p in prompts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _unknown(name: str, path: Path) -> EvaluationError:
    """What is wrong with a name that is neither a set nor a file of a known type."""
    expected = f"a file ending in {', '.join(_PARSERS)}"
    if path.exists():
        got = "a folder" if path.is_dir() else f"a file ending in {path.suffix or 'nothing'}"
        return EvaluationError(f"prompts {name!r}: got {got}, expected {expected}")
    return EvaluationError(
        f"prompts {name!r}: not {expected}, and no built-in set; {suggest(name, list(PROMPT_SETS))}"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise EvaluationError(
            f"{path}, line {line}: got byte 0x{problem.object[problem.start]:02x}, expected UTF-8; "
            "save the file as UTF-8"
        ) from problem
    except OSError as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else problem.strerror
        raise EvaluationError(f"{path}: {reason}, expected a readable file of prompts") from problem


def _from_jsonl(text: str, where: str) -> tuple[EvalPrompt, ...]:
    return tuple(
        _prompt(_parse(line, where, number), f"{where}, line {number}")
        for number, line in _lines(text)
    )


def _from_json(text: str, where: str) -> tuple[EvalPrompt, ...]:
    data = _parse(text, where, 1)
    if not isinstance(data, list):
        raise EvaluationError(
            f"{where}: got {type(data).__name__}, expected a list of strings or of "
            '{"prompt": "...", "domain": "..."}'
        )
    return tuple(
        _prompt({"prompt": item} if isinstance(item, str) else item, f"{where}, item {number}")
        for number, item in enumerate(data, 1)
    )


def _from_txt(text: str, where: str) -> tuple[EvalPrompt, ...]:
    return tuple(EvalPrompt(line.strip(), OTHER_DOMAIN) for _, line in _lines(text))


_PARSERS: dict[str, Callable[[str, str], tuple[EvalPrompt, ...]]] = {
    ".jsonl": _from_jsonl,
    ".json": _from_json,
    ".txt": _from_txt,
}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1; a JSON string may hold U+2028."""
    return ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _parse(text: str, where: str, first_line: int) -> Any:
    """The JSON value in ``text``, which starts at ``first_line`` of the file ``where``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        line = first_line + getattr(problem, "lineno", 1) - 1
        column = f" at column {problem.colno}" if isinstance(problem, json.JSONDecodeError) else ""
        raise EvaluationError(
            f"{where}, line {line}: not valid JSON: {getattr(problem, 'msg', problem)}{column}"
        ) from problem


def _prompt(data: Any, where: str) -> EvalPrompt:
    if not isinstance(data, dict):
        raise EvaluationError(
            f'{where}: got {type(data).__name__}, expected {{"prompt": "...", "domain": "..."}}'
        )
    entry = from_data(_Entry, data, error=EvaluationError, where=where)
    for key, value in (("prompt", entry.prompt), ("domain", entry.domain)):
        if not value.strip():
            raise EvaluationError(f"{where}: {key}: got {value!r}, expected a text; fill it in")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise EvaluationError(
                f"{where}: {key}: got half a surrogate pair, expected Unicode text; write the "
                "character itself"
            )
    return EvalPrompt(entry.prompt, entry.domain)
