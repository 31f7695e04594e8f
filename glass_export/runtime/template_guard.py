"""Limits on what a chat template can make Jinja do: templates are programs of strangers.

A rendering has a budget of limits.TEMPLATE_WORK characters and steps, and more for long
conversations. Every turn of a loop, call of a macro, value that is made and piece of text that is
written takes from it, before it takes time or memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes, pass_environment
from jinja2.runtime import Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from glass_export import limits

_STEP = 16
"""What a turn of a loop takes of the budget, which else counts characters."""
_INPUT_FACTOR = 64
"""Of the budget, for each character of the messages."""
_MOST_DEPTH = 64
"""Lists and objects inside each other."""
_MOST_NUMBER = 10**6
"""Of an argument of a function."""
_MOST_BITS = 4096
"""Of a whole number."""
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min",
    "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "sort",
    "string", "sum", "title", "trim", "unique", "upper", "wordcount",
)  # fmt: skip
_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "format", "get", "index", "isalnum", "isalpha",
    "isdigit", "isspace", "items", "join", "keys", "lower", "lstrip", "removeprefix",
    "removesuffix", "replace", "rfind", "rindex", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper", "values",
})  # fmt: skip
_SHALLOW = frozenset({
    "count", "d", "default", "first", "get", "items", "keys", "last", "length", "list", "map",
    "namespace", "reject", "rejectattr", "reverse", "select", "selectattr", "values",
})  # fmt: skip
"""Functions that look at no more than the items of a list, and make no more of them."""
_WIDTH = re.compile(r"[0-9]{3}|\*|\{[^}]*\{")
"""In a format: a width, or one that comes from a value."""


class TemplateLimitError(jinja2.exceptions.SecurityError):
    """A template does more than a chat template needs."""


_left: ContextVar[int] = ContextVar("template_work")


@contextmanager
def budget(characters: int) -> Iterator[None]:
    """What one rendering may do inside the block; ``characters``: of the messages."""
    token = _left.set(limits.TEMPLATE_WORK + _INPUT_FACTOR * characters)
    try:
        yield
    finally:
        _left.reset(token)


def _charge(cost: int) -> None:
    left = _left.get(0) - cost
    if left < 0:
        raise TemplateLimitError("it does more than a chat template needs")
    _left.set(left)


def _measure(value: Any, depth: int = 0) -> int:
    """Characters and items of a value and of all in it. Raises when there are too many."""
    if depth > _MOST_DEPTH:
        raise TemplateLimitError("its values are nested too deep")
    size = 1
    if isinstance(value, (str, bytes)):
        size += len(value)
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise TemplateLimitError("a number is too large")
    elif isinstance(value, (list, tuple, set, frozenset)):
        size += sum(_measure(item, depth + 1) for item in _counted(value))
    elif isinstance(value, Mapping):
        size += sum(
            _measure(key, depth + 1) + _measure(item, depth + 1)
            for key, item in _counted(value.items())
        )
    return size


def _counted(items: Any) -> Iterator[Any]:
    """The items, each of which takes from the budget for being looked at."""
    for item in items:
        _charge(_STEP)
        yield item


def _made(value: Any) -> Any:
    """A value, after its size was taken from the budget."""
    _charge(_measure(value))
    return value


def _listed(value: Any) -> Any:
    """The same of what may be a list of items that are counted already."""
    if hasattr(value, "__next__"):  # a filter that goes on as its items are asked for
        return list(_counted(value))
    _charge(len(value) if hasattr(value, "__len__") else 1)
    return value


def _check_call(name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Refuse a call that would make or move too much; the first argument is the object it is of."""
    given = [*arguments, *keywords.values()]
    for value in given:
        if name not in _SHALLOW:
            _measure(value)
        if isinstance(value, int) and abs(value) > _MOST_NUMBER:
            raise TemplateLimitError("a number is too large")
    if name in ("indent", "tojson") and any(
        isinstance(value, int) and not 0 <= value <= 64 for value in given[1:]
    ):
        raise TemplateLimitError("it indents too far")
    texts = [value for value in given if isinstance(value, str)]
    if name == "replace" and len(texts) >= 3:
        text, old, new = texts[:3]
        _charge((text.count(old) if old else len(text) + 1) * len(new))
    elif name == "join" and given:
        listed = next((value for value in given if isinstance(value, (list, tuple))), ())
        _charge(len(listed) * sum(map(len, texts)))
    elif name == "indent" and texts:
        _charge(texts[0].count("\n") * (64 + sum(map(len, texts[1:]))))
    elif name in ("format", "strftime_now") and any(_WIDTH.search(text) for text in texts[:1]):
        raise TemplateLimitError("a format with a width")


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja for chat templates, sandboxed, which counts what a template does."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, **options: Any) -> None:
        super().__init__(optimized=False, finalize=_written, **options)
        for name in ("lipsum", "cycler", "joiner"):
            del self.globals[name]
        self.globals["range"] = _range
        kept = {name: self.filters[name] for name in _FILTERS}
        self.filters = {name: _guarded(name, function) for name, function in kept.items()}

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Let templates use a filter."""
        self.filters[name] = _guarded(name, function)

    def program(self, source: str) -> jinja2.Template:
        """The template of a source, with steps in its loops. Raises what Jinja raises."""
        tree = self.parse(source)
        node: Any  # a statement of these kinds has a body
        for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            assert isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock)
            constant = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
            node.body.insert(0, nodes.ExprStmt(_call("step", nodes.Const(_STEP + constant))))
        _wrap_made(tree)
        code = self.compile(tree)
        return self.template_class.from_code(self, code, self.make_globals(None), None)

    step = staticmethod(_charge)
    made = staticmethod(_made)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """See SandboxedEnvironment; before it, refuse what would be too large."""
        _charge(_STEP)
        if operator == "*" and not all(isinstance(side, (int, float)) for side in (left, right)):
            length = max(len(side) for side in (left, right) if hasattr(side, "__len__"))
            times = next((side for side in (left, right) if isinstance(side, int)), 1)
            _charge(length * max(times, 0))
        if operator == "**" and not (abs(left) <= _MOST_NUMBER and abs(right) <= 64):
            raise TemplateLimitError("a number is too large")
        if operator == "%" and isinstance(left, str):
            _check_call("format", (left, *(right if isinstance(right, tuple) else (right,))), {})
        return _made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """See SandboxedEnvironment; before it, refuse what would be too large."""
        _charge(_STEP)
        name, owner = getattr(__obj, "__name__", ""), getattr(__obj, "__self__", None)
        if isinstance(owner, (str, bytes, list, tuple, dict)):
            if name not in _METHODS:
                raise TemplateLimitError(f"the method {name!r} is not supported")
            _check_call(name, (owner, *args), kwargs)
        elif __obj is _charge or __obj is _made:
            return __obj(*args)
        elif not isinstance(__obj, Macro):
            _check_call(name, args, kwargs)
        value = super().call(__context, __obj, *args, **kwargs)
        return _made(value) if isinstance(value, (str, dict)) else _listed(value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """See SandboxedEnvironment; before it, refuse what would be too large."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def run(*arguments: Any, **keywords: Any) -> str:
            _check_call("format", (value.__self__, *arguments), keywords)
            return formatted(*arguments, **keywords)

        return run


def _call(name: str, *arguments: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


def _wrap_made(node: nodes.Node) -> None:
    """Count lists, objects and joined texts of a template where they are made."""
    made = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Concat)
    for field, value in node.iter_fields():
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, nodes.Node):
                continue
            _wrap_made(child)
            if isinstance(child, made) and getattr(child, "ctx", "load") == "load":
                children[index] = _call("made", child)
        if not isinstance(value, list):
            setattr(node, field, children[0])


@pass_environment
def _written(_: Any, value: Any) -> Any:
    """A value that is written. As it asks for the environment, Jinja takes no constant ahead."""
    _charge(_measure(value))
    return value


def _range(*bounds: int) -> range:
    made = range(*bounds)
    _charge(_STEP * len(made))
    return made


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts. What Jinja asks of the function, such as its context, stays asked."""
    passed = getattr(function, "jinja_pass_arg", None)

    def run(*arguments: Any, **keywords: Any) -> Any:
        _charge(_STEP)
        first = 1 if passed is not None else 0
        given = [
            list(_counted(value)) if hasattr(value, "__next__") else value
            for value in arguments[first:]
        ]
        if given and not isinstance(given[0], Undefined):
            _check_call(name, tuple(given), keywords)
        value = function(*arguments[:first], *given, **keywords)
        return _made(value) if isinstance(value, str) else _listed(value)

    if passed is not None:
        run.jinja_pass_arg = passed  # type: ignore[attr-defined]
    return run
