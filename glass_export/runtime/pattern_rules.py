"""Which regular expressions of a tokenizer are run: those that cannot take long.

The same rules as ``csrc/driver/tokenizer/pattern_rules.cpp``, which says them in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from glass_export import limits

MOST_CHOICES = 6
_MOST_DEPTH = 16
"""Groups inside each other."""
_MOST_COUNT = 16
"""Above, a number of repetitions counts as unbounded."""

_GROUP = re.compile(r"\((?:\?(?::|i:|=|!|<=|<!|>)|(?![?*]))")
_ESCAPE = re.compile(r"\\(?:[pPx]\{[^}]*\}|[pPsSdDwWhHnrtfvbBAzZx0]|[^0-9A-Za-z])", re.DOTALL)
_CLASS = re.compile(r"\[\^?(?:%s|[^\\\[])(?:%s|[^\\\[\]])*\]" % ((_ESCAPE.pattern,) * 2), re.DOTALL)
_LITERAL = re.compile(r"[^\\\[*+?()|]", re.DOTALL)
_QUANTIFIER = re.compile(r"(?P<sign>[?*+]|\{(?P<least>\d+)(?P<range>,(?P<most>\d*))?\})[?+]?")


def is_quick(pattern: str) -> bool:
    """Whether a pattern takes at most quadratic time, by the rules."""
    if len(pattern.encode()) > limits.PATTERN_BYTES:
        return False
    try:
        scanner = _Scanner(pattern)
        scanner.alternatives(0)
    except _Refused:
        return False
    return scanner.at == len(pattern)


class _Refused(Exception):
    """A rule is broken."""


@dataclass(slots=True)
class _Cost:
    """What a branch, or a group, makes a matcher try."""

    choices: int = 0
    unbounded: int = 0

    def add(self, inner: _Cost, choice: bool, unbounded: bool, optional: bool) -> None:
        if self.unbounded >= 2 and not optional:
            raise _Refused
        self.choices += inner.choices + choice
        self.unbounded += inner.unbounded + unbounded
        if self.choices > MOST_CHOICES or self.unbounded > 2:
            raise _Refused


class _Scanner:
    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def alternatives(self, depth: int) -> _Cost:
        """Branches up to the end, or to the parenthesis that closes the group."""
        costs = [self._branch(depth)]
        while self._take("|"):
            costs.append(self._branch(depth))
        return _Cost(
            max(cost.choices for cost in costs) + (len(costs) > 1 and depth > 0),
            max(cost.unbounded for cost in costs),
        )

    def _branch(self, depth: int) -> _Cost:
        cost = _Cost()
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            group = self.pattern[self.at] == "("
            inner = self._group(depth + 1) if group else self._atom()
            found = _QUANTIFIER.match(self.pattern, self.at)
            if found is None:
                if self.pattern[self.at : self.at + 1] == "{":
                    raise _Refused
                cost.add(inner, False, False, False)
                continue
            self.at = found.end()
            optional, unbounded, choice = _kind(found)
            if group and found["sign"] != "?":
                raise _Refused
            cost.add(inner, choice, unbounded, optional)
        return cost

    def _group(self, depth: int) -> _Cost:
        if depth > _MOST_DEPTH or not (found := _GROUP.match(self.pattern, self.at)):
            raise _Refused
        self.at = found.end()
        cost = self.alternatives(depth)
        if not self._take(")"):
            raise _Refused
        return cost

    def _atom(self) -> _Cost:
        for atom in (_ESCAPE, _CLASS, _LITERAL):
            if found := atom.match(self.pattern, self.at):
                self.at = found.end()
                return _Cost()
        raise _Refused

    def _take(self, sign: str) -> bool:
        if self.pattern[self.at : self.at + 1] != sign:
            return False
        self.at += 1
        return True


def _kind(found: re.Match[str]) -> tuple[bool, bool, bool]:
    """Of a quantifier: whether it is optional, unbounded, and a choice."""
    if found["least"] is None:
        return found["sign"] in "?*", found["sign"] in "*+", True
    least = min(int(found["least"][:5]), 1000)
    ranged = found["range"] is not None
    most = found["most"] if ranged else found["least"]
    unbounded = not most or int(most[:5]) > _MOST_COUNT or least > _MOST_COUNT
    return least == 0, unbounded, ranged or unbounded
