"""The Python reader as a program, for test_attacks.py: for each directory on standard input it
prints the code of what is wrong with the artifact, or "ok", the seconds of a processor that took,
and the message.

Each is read in a child process of its own, which may take so much memory and time and no more.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError
from glass_export.runtime.text import TextCodec

MEMORY = 512 << 20
"""Bytes that a child may take beyond what it begins with."""
SECONDS = 60


def read(artifact: Path) -> str:
    """Read an artifact as far as no engine is needed."""
    try:
        opened = Artifact.open(artifact, check="full")
        opened.prior()
        codec = TextCodec.of_artifact(opened)
        tokens, _ = codec.encode([{"role": "user", "content": "a" * 64 + " Hello"}], "user")
        codec.decode(tokens)
    except ArtifactError as problem:
        return f"{problem.code} {problem}"
    return "ok"


def _child(artifact: Path, answer: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    signal.alarm(SECONDS)
    started = time.process_time()
    try:
        said = read(artifact)
    except BaseException as problem:
        said = f"{type(problem).__name__} {problem}"
    code, _, message = said.partition(" ")
    took = time.process_time() - started
    os.write(answer, f"{code} {took:.3f} {' '.join(message.split())[:500]}".encode())


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _child(Path(line.rstrip("\n")), writer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        print(said or f"died {SECONDS} status {status}", flush=True)


if __name__ == "__main__":
    main()
