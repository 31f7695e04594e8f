"""A byte of the manifest is changed."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "checksum"


def attack(artifact: Path) -> None:
    text = hostile.manifest_text(artifact).replace("llama", "lLama", 1)
    (artifact / "glass.json").write_text(text, encoding="utf-8")
