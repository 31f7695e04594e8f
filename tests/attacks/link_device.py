"""A file is a link to a device without an end."""

from __future__ import annotations

from pathlib import Path

CODE = "link"


def attack(artifact: Path) -> None:
    (artifact / "tokenizer.json").unlink()
    (artifact / "tokenizer.json").symlink_to("/dev/zero")
