"""What contestants compute: prompts to time, and passages to score, as tokens of one tokenizer."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from glass_export.runtime.text import TextCodec


@dataclass(frozen=True, slots=True)
class Passage:
    """A prompt with its score mask, and the tokens that follow it."""

    tokens: tuple[int, ...]
    mask: tuple[float, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """The built-in text in the tokens of one model."""

    passages: tuple[Passage, ...]

    @classmethod
    def of(cls, text: TextCodec, max_length: int) -> Workload:
        """Tokenise the built-in text; passages are cut where a context of ``max_length`` ends."""
        return cls(tuple(_tokenise(text, passage, max_length) for passage in _texts()))

    def prompt(self, length: int) -> list[int]:
        """``length`` tokens: the passages one after the other, over and over."""
        whole = [t for passage in self.passages for t in passage.tokens + passage.continuation]
        return (whole * (length // len(whole) + 1))[:length]

    def plain(self) -> list[dict[str, Any]]:
        """The passages as JSON data, for a worker's ``score``."""
        return [asdict(passage) for passage in self.passages]


def _tokenise(text: TextCodec, passage: dict[str, str], max_length: int) -> Passage:
    """Prompt and continuation are tokenised apart, so that the cut is the same for all models."""
    ids, mask = text.encode_text(passage["prompt"].strip("\n"))
    following = text.tokenizer.encode(_joined(passage), add_special_tokens=False).ids
    most = min(len(ids), max_length // 2)
    return Passage(
        tuple(ids[:most]), tuple(mask[:most].tolist()), tuple(following[: max_length - most])
    )


def _joined(passage: dict[str, str]) -> str:
    """The continuation with what separates it from the prompt: a line break, or a space."""
    code = passage["continuation"].startswith(" ")
    return ("\n" if code else " ") + passage["continuation"].strip("\n")


@cache
def _texts() -> tuple[dict[str, str], ...]:
    source = files("glass_export.bench") / "texts" / "passages.toml"
    return tuple(tomllib.loads(source.read_text(encoding="utf-8"))["passage"])
