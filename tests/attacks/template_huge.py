"""A chat template of 17 GB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "too-large"


def attack(artifact: Path) -> None:
    with (artifact / "chat_template.jinja").open("r+b") as file:
        file.truncate(1 << 34)

    def change(manifest: dict[str, Any]) -> None:
        next(f for f in manifest["files"] if f["path"] == "chat_template.jinja")["size"] = 1 << 34

    hostile.edit(artifact, change)
