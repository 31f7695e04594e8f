"""A tokenizer that is not UTF-8."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "tokenizer"


def attack(artifact: Path) -> None:
    content = (artifact / "tokenizer.json").read_bytes()
    hostile.put(artifact, "tokenizer.json", content.replace(b"quick", b"qu\xffck"))
