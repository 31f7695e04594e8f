"""A file is a pipe: reading it would wait for ever."""

from __future__ import annotations

import os
from pathlib import Path

CODE = "unreadable"


def attack(artifact: Path) -> None:
    (artifact / "tokenizer.json").unlink()
    os.mkfifo(artifact / "tokenizer.json")
