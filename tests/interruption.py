"""A progress sink that interrupts work in the middle, as a kill would."""

from __future__ import annotations

from glass_export import log


class Stop(Exception):
    pass


class StopAfter(log._Silent):
    """Raises Stop once a bar of this name has advanced by more than ``tokens``."""

    def __init__(self, bar: str, tokens: int) -> None:
        self.bar, self.left, self.active = bar, tokens, False

    def start(self, description: str, total: float | None, unit: str) -> log.Task:
        self.active = self.bar in description
        return self

    def advance(self, amount: float = 1.0) -> None:
        self.left -= int(amount) * self.active
        if self.left < 0:
            raise Stop
