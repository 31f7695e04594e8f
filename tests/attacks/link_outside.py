"""A file is a link to one outside of the directory."""

from __future__ import annotations

from pathlib import Path

CODE = "link"


def attack(artifact: Path) -> None:
    outside = artifact.parent / "secret"
    outside.write_bytes((artifact / "tokenizer.json").read_bytes())
    (artifact / "tokenizer.json").unlink()
    (artifact / "tokenizer.json").symlink_to(outside)
