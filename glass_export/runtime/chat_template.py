"""Chat templates: Jinja, sandboxed, with the names and filters that Hugging Face templates expect.

Source: transformers.utils.chat_template_utils; rendered text is the same, character by character.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import cycle, takewhile
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from glass_export import limits
from glass_export.errors import ArtifactCode, ArtifactError, GenerationError
from glass_export.runtime.template_guard import GuardedEnvironment, TemplateLimitError, budget

Message = Mapping[str, Any]
Span = tuple[int, int]

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: never part of interchanged text


class _Generation(Extension):
    """``{% generation %}`` marks the assistant's words for training; here it is a plain block."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Namespace(jinja2.utils.Namespace):
    """A namespace that gives templates no way to Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may pass ``self=``
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _public(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} is not allowed")


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def strftime_now(form: str) -> str:
    """The time as text, by the name that templates know."""
    return datetime.now().strftime(form)


def _environment() -> GuardedEnvironment:
    environment = GuardedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = strftime_now
    environment.globals["namespace"] = _Namespace
    return environment


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        """Compile ``source``; ``variables`` are ``bos_token``, ``eos_token`` and the like.

        Raises:
            ArtifactError: the template is not valid Jinja, or larger than a chat template is.
        """
        self._template = _compiled(source)
        self._variables = dict(variables)

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as text, up to where the assistant's answer begins.

        Raises:
            GenerationError: the messages are malformed, or the template refuses them.
            ArtifactError: the template does more than a chat template needs.
        """
        plain = _checked(messages)
        try:
            characters = sum(
                len(text) for message in plain for text in message.values() if isinstance(text, str)
            )
            with budget(characters):
                pieces = self._template.generate(
                    messages=plain,
                    tools=None,
                    documents=None,
                    add_generation_prompt=True,
                    **self._variables,
                )
                return "".join(pieces)
        except (TemplateLimitError, RecursionError, MemoryError) as problem:
            raise ArtifactError(
                f"chat template: {problem}; use another artifact, or pass prompts as plain text",
                ArtifactCode.TEMPLATE,
            ) from problem
        except Exception as problem:  # the template is a program: it may raise anything
            raise GenerationError(
                f"chat template: refused the messages: {problem}; check their roles and order"
            ) from problem

    def render_spans(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        """The rendered text, and where in it the contents of the user's messages are.

        The contents are found by rendering once more with marks around them. No span is returned
        when a template changes the contents by more than trimming them.
        """
        text = self.render(messages)
        for form in (str, str.strip):
            try:
                marked = self.render([_mark(message, form) for message in messages])
            except GenerationError:
                continue
            spans = _spans(marked)
            if spans and marked.replace(_OPEN, "").replace(_CLOSE, "") == text:
                return text, spans
        return text, []

    def user_frame(self) -> tuple[str, str] | None:
        """What the template writes right before and right after the words of a user, in any turn.

        Source of both are a first and a later turn: what these have in common. None when a template
        puts no text of its own on either side.
        """
        user = {"role": "user", "content": f"{_OPEN}x{_CLOSE}"}
        try:
            before, after = self.render([user]).split(user["content"])
        except (GenerationError, ValueError):
            return None
        try:
            turns = self.render([user, {"role": "assistant", "content": "y"}, user])
            _, between, _ = turns.split(user["content"])
        except (GenerationError, ValueError):  # a template for a single turn
            return (before, after) if before and after else None
        opening, closing = _common(before[::-1], between[::-1])[::-1], _common(after, between)
        return (opening, closing) if opening and closing else None


def _compiled(source: str) -> jinja2.Template:
    code = ArtifactCode.TEMPLATE
    if (size := len(source.encode(errors="replace"))) > limits.TEMPLATE_BYTES:
        raise ArtifactError(
            f"chat template: has {size} bytes, at most {limits.TEMPLATE_BYTES} are read", code
        )
    try:
        return _environment().program(source)
    except Exception as problem:  # Python itself compiles what Jinja makes of it
        raise ArtifactError(f"chat template: not valid Jinja: {problem}", code) from problem


def _common(one: str, other: str) -> str:
    """The beginning that two strings share."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(char for char, _ in pairs)


def _checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    if not messages:
        raise GenerationError("messages: got none, expected at least one, such as a user's")
    for index, message in enumerate(messages):
        fields = message if isinstance(message, Mapping) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise GenerationError(
                f"messages[{index}]: got {message!r}, expected a mapping with the strings "
                "'role' and 'content', such as {'role': 'user', 'content': 'Hello'}"
            )
    return [dict(message) for message in messages]


def _mark(message: Message, form: Any) -> Message:
    if message["role"] != "user" or not message["content"].strip():
        return message
    return {**message, "content": f"{_OPEN}{form(message['content'])}{_CLOSE}"}


def _spans(marked: str) -> list[Span]:
    """Spans between marks, counted without the marks; none when marks are not in pairs."""
    marks = [(index, char) for index, char in enumerate(marked) if char in (_OPEN, _CLOSE)]
    paired = all(
        char == want for (_, char), want in zip(marks, cycle((_OPEN, _CLOSE)), strict=False)
    )
    if not paired or len(marks) % 2:
        return []
    places = [index - before for before, (index, _) in enumerate(marks)]
    return list(zip(places[::2], places[1::2], strict=True))
