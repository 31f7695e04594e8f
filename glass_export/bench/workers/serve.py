"""The worker's end of the protocol: one JSON object a line, a request and its reply in turns.

A request has ``op`` and arguments; a reply has ``ok`` with the result, or ``error`` and ``kind``.

| op      | arguments                              | result                                     |
|---------|----------------------------------------|--------------------------------------------|
| load    | ``model``, ``threads``, ``max_length`` | :class:`.engine.EngineInfo`, memory in MB  |
| prefill | ``tokens``, ``mask``, ``density``      | times in ms                                |
| decode  | ``count``                              | ``ms`` of all of them                      |
| score   | see :func:`.engine.score`              | ``kl``, ``ppl``, ``tokens``                |
| quit    |                                        | ``peak_rss_mb``, ``anon_mb``               |

``load`` tells ``base_rss_mb``, resident memory with the runtime but without the model, and
``load_rss_mb`` with it. ``anon_mb`` is what has come since then that is no page of a file: packed
weights, caches, buffers. Memory is in MB (10^6 bytes), None where the system does not tell.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from glass_export.bench.workers import KINDS
from glass_export.bench.workers.engine import Conversation, Engine, score

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main() -> None:
    """Serve the engine named by the last argument over stdin and stdout until ``quit``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started the workers
    _die_with_parent()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    Worker(sys.argv[-1]).serve(sys.stdin, channel)


def _die_with_parent() -> None:
    """On Linux: a stopped process would not notice that nobody will ever wake it again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """Carries out requests with one engine."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._talk: Conversation | None = None
        self._base_anon: float | None = None
        self._operations: dict[str, Callable[..., dict[str, Any]]] = {
            "load": self._load,
            "prefill": lambda **given: self._conversation().prefill(**given),
            "decode": lambda count: {"ms": self._conversation().decode(count)},
            "score": lambda **given: score(self._conversation().engine, **given),
            "quit": self._quit,
        }

    def serve(self, requests: TextIO, replies: TextIO) -> None:
        """Answer requests until ``quit`` or the end of the input."""
        for line in requests:
            request = json.loads(line)
            name = request.pop("op")
            try:
                reply: dict[str, Any] = {"ok": self._operations[name](**request)}
            except Exception as problem:  # whatever a runtime raises is for the other side
                reply = {"error": f"{problem}", "kind": type(problem).__name__}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
            if name == "quit":
                return

    def _load(self, model: str, threads: int, max_length: int) -> dict[str, Any]:
        module = import_module(f"glass_export.bench.workers.{self._kind}")
        engine: Engine = getattr(module, KINDS[self._kind])(model)
        before, self._base_anon = memory_mb("VmRSS"), memory_mb("RssAnon")
        info = engine.load(threads, max_length)
        self._talk = Conversation(engine)
        memory = {"base_rss_mb": before, "load_rss_mb": memory_mb("VmRSS")}
        return {**dataclasses.asdict(info), **memory}

    def _quit(self) -> dict[str, Any]:
        now, before = memory_mb("RssAnon"), self._base_anon
        anon = None if now is None or before is None else now - before
        return {"peak_rss_mb": memory_mb("VmHWM"), "anon_mb": anon}

    def _conversation(self) -> Conversation:
        if self._talk is None:
            raise RuntimeError("no model is loaded; send 'load' first")
        return self._talk


def memory_mb(field: str) -> float | None:
    """A field of Linux's /proc/self/status in MB (10^6 bytes); None on other systems."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    values = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(values[field].split()[0]) * 1024 / 1e6
