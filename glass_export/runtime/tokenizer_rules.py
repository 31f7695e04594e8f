"""What a tokenizer.json may ask for, so that encoding and decoding stay quick and small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from glass_export import limits
from glass_export.runtime.pattern_rules import is_quick

_NFC_GROWTH = 3
"""Bytes of a character that NFC makes of one. Source: Unicode Standard Annex 15, section 9."""
_COMPATIBLE_GROWTH = 11
"""The same of NFKC and NFKD, whose longest is U+FDFA."""


def tokenizer_problem(tokenizer: Tokenizer) -> str | None:
    """What is wrong with a tokenizer that the library has read; None when nothing is."""
    if len(tokenizer.get_added_tokens_decoder()) > limits.ADDED_TOKENS:
        return f"more than {limits.ADDED_TOKENS} added tokens"
    if max(tokenizer.get_vocab().values(), default=0) >= limits.TOKEN_IDS:
        return f"a token's id is {limits.TOKEN_IDS} or more"
    for part in (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder):
        if part is None:
            continue
        steps = list(_steps(json.loads(part.__getstate__())))
        growth = 1
        for step in steps:
            if problem := _step_problem(step):
                return problem
            growth *= _growth(step)
        if growth > limits.TEXT_GROWTH or len(steps) > limits.TEXT_GROWTH:
            return f"its steps make a text more than {limits.TEXT_GROWTH} times as long"
    return None


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The parts of a component that are no sequences, in order."""
    inner = next(
        (part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part), None
    )
    if inner is None:
        yield part
        return
    for child in inner:
        yield from _steps(child)


def _step_problem(step: dict[str, Any]) -> str | None:
    pattern = step.get("pattern")
    text = pattern.get("Regex") if isinstance(pattern, dict) else None
    if text is not None and not is_quick(text):
        return (
            "a regular expression that can take too long, or has signs that are not supported: "
            f"{text[:60]!r}"
        )
    if step.get("type") == "Strip" and step.get("content") == "":
        return "a decoder strips nothing"
    return None


def _growth(step: dict[str, Any]) -> int:
    """Bytes that a step makes of one, at most."""
    kind = step.get("type")
    if kind == "Replace":
        return len(step.get("content", "").encode()) + 1
    if kind == "Prepend":
        return len(step.get("prepend", "").encode()) + 1
    if kind == "ByteLevel" and "use_regex" in step and "trim_offsets" in step:
        return 4 if step.get("add_prefix_space") else 2
    return {"NFC": _NFC_GROWTH, "NFD": _NFC_GROWTH}.get(
        str(kind), _COMPATIBLE_GROWTH if kind in ("NFKC", "NFKD") else 1
    )
